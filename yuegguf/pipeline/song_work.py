"""One song that a scheduler works on: its folder, its plan and its outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from yuegguf.errors import DamagedFile, Interrupted, YueError
from yuegguf.models.resolve import Models
from yuegguf.pipeline import phases, preflight
from yuegguf.pipeline.engines import EngineFactory, encoding_memory, engine_factory, find_devices
from yuegguf.pipeline.song_models import check_same
from yuegguf.planning import hardware
from yuegguf.planning.compute_options import ComputeOptions, Devices, check_threads, most_threads
from yuegguf.planning.plan import LAYER_PHASES, Plan, revise_plan
from yuegguf.planning.together import DraftNeed
from yuegguf.progress import Event, Progress, silent
from yuegguf.request.preview_options import PreviewOptions, as_it_was
from yuegguf.request.song_request import Song
from yuegguf.song.encoding import fit_whole
from yuegguf.song.folder import SongFolder
from yuegguf.song.markers import repaired_song
from yuegguf.song.record import Phase
from yuegguf.song.state import finished, where

PHASES: tuple[Phase, ...] = ("draft", "sketch", "refine", "master")
"""All phases of a song, in order."""
EarlyChange = Callable[[PreviewOptions], PreviewOptions]


class SongWork:
    """A song to bring to its end, or to the end of the draft that was asked for."""

    def __init__(
        self,
        folder: SongFolder,
        models: Models,
        options: ComputeOptions,
        progress: Progress = silent,
        *,
        early: EarlyChange = as_it_was,
        at_end: Callable[[SongWork], None] = lambda work: None,
        only: Collection[Phase] = PHASES,
    ) -> None:
        """`early` changes the files written before the end; `at_end` is called once the song has ended.

        Once a phase comes next that is not among `only`, the song has ended too. What `at_end` raises is no
        result of the song; see `Scheduler.run`.
        """
        self._only = only
        self.folder, self.models, self.options, self._early = folder, models, options, early
        self._progress, self._cancelled, self._stop = progress, threading.Event(), threading.Event()
        self._claim, self._at_end = ExitStack(), at_end
        self.begun = False
        """Whether the folder is claimed and the plan is made."""
        self.plan: Plan
        self.headers: preflight.Headers
        self.parts: EngineFactory
        self.seconds_before = 0.0
        """Seconds of the draft before its first step."""
        self.report_error: Exception | None = None
        """Error that `at_end` raised."""
        self._caps: list[int] = []
        """Maximum frames of each section, of a song that waits for stage 1."""
        self.last_event: Event | None = None
        self._outcome: Song | Exception | None = None

    @property
    def ended(self) -> bool:
        """Whether the song is done, or has failed or been stopped."""
        return self._outcome is not None

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    @property
    def phase(self) -> Phase:
        """The phase that comes next here; "done" where it is none of those that were asked for."""
        phase = where(self.folder)
        return phase if phase in self._only else "done"

    def cancel(self) -> None:
        """Stop this song within a step; `result` then raises Interrupted. Any thread may call it."""
        self._cancelled.set()

    def result(self) -> Song:
        """The song, once it has ended. Raises what ended it, with the folder in a YueError."""
        if isinstance(self._outcome, Exception):
            raise self._outcome
        if self._outcome is None:
            raise Interrupted(f"{self.folder.path} has not ended yet", "run the scheduler first")
        return self._outcome

    def begin(
        self, stop: threading.Event, *, before: Devices | None = None, layers_here: bool = True
    ) -> None:
        """Claim the folder, check everything and note the plan; a failure ends the song.

        Nothing in the folder changes before it is claimed and everything is checked. Once `stop` is set, the
        song stops at its next event. `before`, `layers_here`: see `note_plan`.
        """
        self._stop = stop
        self._end_if(partial(self._begun, before, layers_here))

    def _begun(self, before: Devices | None, layers_here: bool) -> Song | None:
        """Claim the folder and note the plan; returns the song where nothing is left to do."""
        early = self._early(self.folder.early)
        if where(self.folder) == "done" and early == self.folder.early:
            return repaired_song(self.folder)
        self._claim.enter_context(self.folder.claimed())
        check_same(self.folder, self.models)
        early = self._early(self.folder.early)
        self.plan, self.headers = note_plan(
            self.folder,
            self.models,
            self.options,
            early,
            self.progress,
            before=before,
            layers_here=layers_here,
        )
        self.parts = engine_factory(
            self.models,
            self.plan,
            self.options,
            self._stop,
            lambda words: self.progress(Event("draft", 0, 1, warning=words)),
        )
        if self.phase == "draft":  # read now, so that a damaged file fails this song alone
            self._caps = self.folder.frame_caps()
        self.begun = True
        return self._song_if_done()

    def progress(self, event: Event) -> None:
        """Report an event of this song. Raises Interrupted once it is to stop: nothing is lost then."""
        if not event.warning:
            self.last_event = event
        self._progress(event)
        if self.cancelled or self._stop.is_set():
            raise Interrupted("stopped")

    def has_same_inputs(self, other: SongWork) -> bool:
        """Whether the draft is conditioned on the same as another's: they are takes of one request."""
        requests = [replace(work.folder.request, take=0) for work in (self, other)]
        return requests[0] == requests[1] and self.models.codec == other.models.codec

    def encode_inputs(self, same: SongWork | None, open_bytes: int = 0) -> None:
        """Encode what the draft is conditioned on, unless another song with the same inputs has it.

        `open_bytes` of the memory are taken by an open model. A failure ends the song.
        """
        try:
            if same is not None:
                self.folder.copy_encodings(same.folder)
            parts = self._parts_beside(open_bytes)
            self.seconds_before += phases.encode_inputs(self.folder, parts, self.progress)
        except Exception as error:
            self.fail(error)

    def encodes_whole(self, open_bytes: int) -> bool:
        """Whether its recordings are encoded beside an open model as they would be alone.

        Where one cannot be read, that fails the song once it is encoded.
        """
        request, folder = self.folder.request, self.folder
        try:
            reference = request.reference if folder.load_reference() is None else None
            track = request.track if folder.load_guide_track() is None else None
            return fit_whole(reference, track, self._parts_beside(open_bytes).room)
        except YueError:
            return True

    def _parts_beside(self, open_bytes: int) -> EngineFactory:
        """The engines, with the part of --max-memory that an open model leaves for encoding."""
        most = self.options.max_memory
        if not open_bytes or most is None:  # free memory is measured when it is needed
            return self.parts
        left = max(0, most - open_bytes)
        return replace(self.parts, room=lambda: encoding_memory(self.models.codec, left))

    def write_audio(self) -> None:
        """Write the audio that comes next, if any; a failure ends the song, and so does its last file."""
        self._end_if(self._audio_written)

    def _audio_written(self) -> Song | None:
        if self.phase != "done":
            phases.write_audio(self.folder, self.parts, self.progress)
        return self._song_if_done()

    def _song_if_done(self) -> Song | None:
        return finished(self.folder) if self.phase == "done" else None

    def _end_if(self, work: Callable[[], Song | None]) -> None:
        """End the song if this work fails, or returns it since nothing is left to do."""
        try:
            song = work()
        except Exception as error:
            self.fail(error)
        else:
            if song is not None:
                self._end(song)

    def fail(self, error: Exception) -> None:
        """End the song with an error, or with a copy of one that another song has ended with."""
        if isinstance(error, YueError):
            error = error if error.folder in (None, self.folder.path) else _copied(error)
            error.folder = self.folder.path
        self._end(error)

    def _end(self, outcome: Song | Exception) -> None:
        self._claim.close()
        self._outcome = outcome
        try:
            self._at_end(self)
        except Exception as error:
            self.report_error = error

    def release(self) -> None:
        """Unlock the folder."""
        self._claim.close()

    @property
    def frames_left(self) -> int:
        """Maximum frames that are still to be drafted."""
        if self.last_event is None or self.last_event.phase != "draft":
            return sum(self._caps)
        return self.last_event.total - self.last_event.done

    @property
    def draft_need(self) -> DraftNeed:
        """Memory that the draft needs beside others."""
        section = 2 * max(self._caps, default=0) + 2
        uncond = section if self.folder.request.sampling.guided else 0
        return DraftNeed(self.plan, self.plan.n_ctx + uncond, self.headers.preview_bytes)

    @property
    def stage1_load(self) -> tuple[object, ...]:
        """Settings with which stage 1 is loaded; songs with equal ones can share it."""
        held = replace(self.plan.stage1(), rows=0, ids=0)
        return self.models.stage1, self.models.loras, held, self.plan.threads, self.plan.device

    @property
    def stage2_load(self) -> tuple[object, ...]:
        """Settings with which stage 2 is loaded; songs with equal ones can share it."""
        held = replace(self.plan.stage2(), rows=0)
        return self.models.stage2, held, self.plan.threads, self.plan.device


def _copied(error: YueError) -> YueError:
    copied = type(error).__new__(type(error), *error.args)
    copied.__dict__.update(error.__dict__)
    copied.__cause__ = error.__cause__
    return copied.with_traceback(error.__traceback__)


def note_plan(
    folder: SongFolder,
    models: Models,
    options: ComputeOptions,
    early: PreviewOptions,
    progress: Progress,
    *,
    before: Devices | None = None,
    layers_here: bool = True,
) -> tuple[Plan, preflight.Headers]:
    """Decide how a claimed song goes on, with what the user now says, and write it into song.json.

    `before` are the devices as they were before a model was opened, if one is. Without `layers_here` other
    machines compute with the language models. Returns the plan, and the models' headers. Raises YueError;
    song.json is not changed then.
    """
    cores, made = hardware.physical_cores(), folder.record.plan
    check_threads(options.threads, cores)
    if made is None:
        raise DamagedFile(f"{folder.path} does not say how it is computed", "start the song again")
    if options.threads is None and made.threads > most_threads(cores):
        words = f"begun with {made.threads} threads, too many for this machine, goes on with {cores}"
        progress(Event("draft", 0, 1, warning=f"the song, {words}; that may change its last bits"))
        options = replace(options, threads=cores)
    headers = preflight.read_models(models, bool(early.preview_seconds))
    phase = where(SongFolder(folder.path, folder.record.changed(early=early)))
    devices = _devices(made, options, layers_here and phase in LAYER_PHASES)
    if before is not None:  # the open model will be closed, or shared if there is room
        devices = devices.with_free(before)
    plan = revise_plan(made, folder.song, headers.facts, options, devices, phase=phase)
    if made.on_own_gpu and not (devices.gpu or options.names_device):
        words = "begun with layers on a GPU, of which llama.cpp finds none here, goes on on the CPU"
        progress(Event("draft", 0, 1, warning=f"the song, {words}; that may change its last bits"))
    if plan.rpc_server not in (None, made.rpc_server) and options.gpu_layers is None:
        words = "another device changes the last bits: the song may go on differently"
        progress(Event("draft", 0, 1, warning=words))
    if (plan, early) != (made, folder.early):
        folder.advance(folder.state, plan=plan, early=early)
    return plan, headers


def _devices(made: Plan, options: ComputeOptions, layers_here: bool) -> Devices:
    """Devices on which a song goes on: with the GPU of its plan, or the one that the user names.

    Where no layer is computed here, any GPU is taken to be there. Raises YueError.
    """
    if not layers_here:
        gpu = options.gpu is not False
        return Devices(hardware.physical_cores(), hardware.available_memory(), gpu=gpu)
    if options.names_device:
        return find_devices(options)
    if made.on_own_gpu:
        return find_devices(replace(options, main_gpu=made.main_gpu))
    return Devices(hardware.physical_cores(), hardware.available_memory())
