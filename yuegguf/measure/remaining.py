"""Time left of a song, from the course of the songs before it and from its own speed so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from yuegguf.planning import hardware
from yuegguf.planning.timing import MeasurementCache, cache_file
from yuegguf.progress import Event
from yuegguf.song.folder import SongFolder

PHASES = ("draft", "refine", "master")
TENTHS = 10
SONG_SHARES = {"draft": 0.55, "refine": 0.40, "master": 0.05}
"""Shares of a song's time before anything was measured on this machine."""
TYPICAL_FILL = 0.9
"""Share of the longest possible draft that songs take, before any was measured: sections end early."""
WINDOW_SECONDS, WINDOW_SHARE = 20.0, 1 / 3
"""The speed is that of the last so many seconds, or of this share of the phase if that is longer."""
KNOWN_FROM_SHARE, KNOWN_FROM_SECONDS = 0.02, 2.0
"""Part of a phase after which its own speed counts rather than the remembered one."""
MOST_SIZES_APART = 6
"""The course of a song up to 2^6 times as long or short counts, where there is no nearer one."""
MOST_SLOWDOWN = 8.0
"""A song that is so many times slower or faster than the remembered course is not like it."""


@dataclass(frozen=True)
class Course:
    """The course of a finished song, remembered for the next one of the same models and machine."""

    phases: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Seconds per frame of the song after each tenth of a phase, beginning with 0."""
    fill: float = TYPICAL_FILL
    """Frames of the song by those that its sections could have had."""


@dataclass(frozen=True)
class SongFacts:
    """Facts on which the course of a song depends."""

    kind: tuple[object, ...]
    size: int
    """The longest that it may be, as a power of two of frames: a frame of a long song takes longer."""
    kept: tuple[int, int] = (0, 0)
    """Frames of an earlier song before and after the new part, which are not refined again."""
    is_extension: bool = False
    """Whether it goes on from another song, so that its time is not that of all its frames."""


def remembered_course(facts: SongFacts) -> Course | None:
    """The course of the song before of these facts, of about the same length if there is one.

    Raises RequestError for a wrong YUEGGUF_CACHE_DIR.
    """
    kind, size, cache = facts.kind, facts.size, course_cache()
    sizes = sorted(range(size - MOST_SIZES_APART, size + MOST_SIZES_APART + 1), key=lambda n: abs(n - size))
    return next((course for n in sizes if (course := cache.find(*kind, n))), None)


def remember_course(course: Course, facts: SongFacts) -> None:
    """Store the course of a song, unless it is an extension, for the next one of its facts.

    Raises as `remembered_course`.
    """
    if not facts.is_extension:
        course_cache().keep(course, *facts.kind, facts.size)


def song_facts(song: SongFolder, takes: int = 1) -> SongFacts:
    """Facts on which the course of a song depends: processor, models, plan, number of takes and length.

    Raises DamagedFile where what is kept of an earlier song cannot be read.
    """
    plan, record = song.record.plan, song.record
    speed = () if plan is None else (plan.threads, plan.stage1_rows, plan.kv_type, plan.flash_attention)
    layers = () if plan is None else (plan.device, plan.stage1_gpu_layers, plan.stage2_gpu_layers)
    engines = () if plan is None else (plan.stage1_engines, plan.stage2_engines)
    kind = (hardware.cpu_name(), record.models, record.loras, *speed, *layers, *engines, takes)
    part = song.load_kept_part()
    kept = (part.before.shape[2], part.after.shape[2]) if part and part.refined else (0, 0)
    return SongFacts(kind, sum(song.song.caps).bit_length(), kept, record.origin is not None)


def course_cache() -> MeasurementCache[Course]:
    """The remembered courses on disk. Raises RequestError for a wrong YUEGGUF_CACHE_DIR."""
    return MeasurementCache(cache_file("courses.json"), Course)


class RemainingTime:
    """Estimate of the time left; `update` takes each event with its time in seconds."""

    def __init__(
        self, course: Course | None = None, phases: Sequence[str] = PHASES, kept: tuple[int, int] = (0, 0)
    ) -> None:
        """`kept`: see SongFacts."""
        self._course, self._phases, self._kept = course or Course(), tuple(phases), kept
        self._parts = {"refine": 1.0, "master": 1.0}
        """Frames that a phase works on by those that are drafted or kept before."""
        self._curves = {phase: self._curve(phase) for phase in self._phases}
        self._known = any(phase in self._course.phases for phase in SONG_SHARES)
        self._begun: float | None = None
        self._now = self._phase_begun = 0.0
        self.share = 0.0
        """Share of the whole time that has passed, 0 to 1; never falls."""
        self._phase, self._frames, self._first_total = "", 0.0, 0
        self._samples: deque[tuple[float, int]] = deque()
        """Times and units done, within the window."""
        self._total = 0.0
        self._ended = (0, 0)
        """Frames done, and frames saved, when the last section ended."""
        self._marks: dict[str, list[float]] = {}
        """Seconds after each tenth of the phases begun here."""
        self._marked = (0.0, 0.0)
        """Share of the phase, and seconds of it, at the last event."""
        self._event: Event | None = None
        self._place = self._share_of_phase = 0.0
        self._fill = self._course.fill
        self._carried: float | None = None
        """Speed at the end of the phase before."""

    def _curve(self, phase: str) -> tuple[float, ...]:
        """The remembered curve, or the usual share of a song in the unit of those that are remembered."""
        known = {p: curve[-1] for p, curve in self._course.phases.items() if p in SONG_SHARES}
        unit = sum(known.values()) / sum(SONG_SHARES[p] for p in known) if known else 1.0
        share = SONG_SHARES.get(phase, 1.0) * unit
        curve = self._course.phases.get(phase) or tuple(share * n / TENTHS for n in range(TENTHS + 1))
        return tuple(self._parts.get(phase, 1.0) * value for value in curve)

    def update(self, event: Event, now: float) -> None:
        """Take an event of one of the phases."""
        if self._begun is None:
            self._begun = self._now = now
        if event.phase != self._phase:
            self._begin_phase(event)
        self._now, self._event = now, event
        self._first_total = max(self._first_total, event.total)  # takes join one after the other
        saved = self._first_total - event.total
        if saved > self._ended[1]:
            self._ended = (event.done, saved)
        total = self._expected_total(event)
        self._frames = self._drafted_frames(event.phase, total)
        self._share_of_phase = min(1.0, event.done / total) if total else 1.0
        place = _at(self._curves[event.phase], self._share_of_phase)
        if self._samples and event.done < self._samples[-1][1]:  # a section is generated again
            self._samples.clear()
        self._place, self._total = place, total
        self._mark(self._share_of_phase)
        self._samples.append((now, event.done))
        window = max(WINDOW_SECONDS, WINDOW_SHARE * (now - self._phase_begun))
        while len(self._samples) > 2 and self._samples[1][0] < now - window:
            self._samples.popleft()
        self._check_course()
        self.share = self._shown_share()

    def _drafted_frames(self, phase: str, total: float) -> float:
        """Frames that are drafted or kept before, by the units of a phase; adapts the curves to them."""
        before, after = self._kept
        drafted = {"draft": total, "refine": total / 2 + before, "master": total - after}.get(phase, total)
        if any(self._kept) and drafted > before:
            self._parts = {"refine": (drafted - before) / drafted, "master": (drafted + after) / drafted}
            self._curves = {phase: self._curve(phase) for phase in self._phases}
        return drafted

    def _check_course(self) -> None:
        """Forget a remembered course that this song's own speed contradicts."""
        measured = self._measured_speed() if self._known and self._frames else None
        if measured is None or 1 / MOST_SLOWDOWN < measured / self._frames < MOST_SLOWDOWN:
            return
        self._course, self._known, self._carried = Course(fill=self._course.fill), False, None
        self._curves = {phase: self._curve(phase) for phase in self._phases}
        self._place = _at(self._curves[self._phase], self._share_of_phase)

    def _begin_phase(self, event: Event) -> None:
        follows = self._event is not None
        self._end_phase()
        self._marked = (0.0, 0.0)
        self._phase, self._phase_begun, self._first_total = event.phase, self._now, event.total
        self._place = 0.0
        self._samples.clear()
        # else it was begun in another process
        if follows or (event.total and event.done / event.total < 1 / TENTHS):
            self._marks[event.phase] = [0.0]

    def _end_phase(self) -> None:
        """Complete the marks of a phase that ended; a draft may end before its last event says so."""
        if self._event is not None:
            self._mark(1.0)
            self._carried = self._speed()
            if self._event.phase == "draft":
                self._ended = (self._event.done, self._first_total - self._event.done)
                self._fill = self._event.done / max(1, self._first_total)

    def _mark(self, share: float) -> None:
        """Note when each tenth up to a share was passed, as if the speed were even since the last event."""
        marks, (before, then) = self._marks.get(self._phase, []), self._marked
        now = self._now - self._phase_begun
        while 0 < len(marks) <= int(share * TENTHS + 1e-9):
            part = (len(marks) / TENTHS - before) / (share - before) if share > before else 1.0
            marks.append(then + (now - then) * min(1.0, max(0.0, part)))
        self._marked = (share, now)

    def _expected_total(self, event: Event) -> float:
        """Units of the phase; a draft's sections mostly end before their limits."""
        if event.phase != "draft":
            return float(event.total)
        done, saved = self._ended
        weight = (done + saved) / max(1, self._first_total)
        observed = done / (done + saved) if done else 1.0
        fill = (1 - weight) * self._course.fill + weight * observed
        return event.done + fill * (event.total - event.done)

    def _shown_share(self) -> float:
        passed = sum(self._curves[p][-1] for p in self._phases[: self._phases.index(self._phase)])
        total = sum(curve[-1] for curve in self._curves.values())
        return max(self.share, min(1.0, (passed + self._place) / total if total else 1.0))

    @property
    def elapsed(self) -> float:
        """Seconds since the first event."""
        return 0.0 if self._begun is None else self._now - self._begun

    @property
    def left(self) -> float | None:
        """Seconds left; None while nothing is known."""
        if self._begun is None:
            return None
        speed = self._speed()
        if speed is None:
            return None
        later = self._phases[self._phases.index(self._phase) + 1 :]
        rest = self._curves[self._phase][-1] - self._place
        return speed * (rest + sum(self._curves[phase][-1] for phase in later))

    def _speed(self) -> float | None:
        """Seconds for a unit of the curves; that of the remembered course is the number of frames."""
        measured, prior = self._measured_speed(), self._carried or (self._frames if self._known else None)
        if measured is None or prior is None:
            return measured or prior
        weight = min(1.0, (self._now - self._phase_begun) / WINDOW_SECONDS)  # a stall is not a speed
        return weight * measured + (1 - weight) * prior

    def _measured_speed(self) -> float | None:
        (then, first), (now, last) = self._samples[0], self._samples[-1]
        curve, total = self._curves[self._phase], max(1.0, self._total)
        low, high = (_at(curve, min(1.0, done / total)) for done in (first, last))
        early = self._share_of_phase < KNOWN_FROM_SHARE or now - then < KNOWN_FROM_SECONDS
        if not early and high > low:
            return (now - then) / (high - low)
        return None

    def course(self, frames: int) -> Course:
        """The course of this song of so many frames, now that it is done.

        Phases that were begun elsewhere keep their remembered course.
        """
        self._end_phase()
        whole = {p: tuple(seconds / frames for seconds in marks) for p, marks in self._marks.items()}
        return Course({**self._course.phases, **whole}, self._fill)


def _at(curve: Sequence[float], share: float) -> float:
    """The value of a curve of tenths at a share, interpolated."""
    place = share * TENTHS
    low = min(int(place), TENTHS - 1)
    return curve[low] + (curve[low + 1] - curve[low]) * (place - low)
