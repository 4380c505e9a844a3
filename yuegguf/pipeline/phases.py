"""The phases of one song: each starts from its folder and ends in it.

So running and resuming are the same; `scheduler` opens the models, for several songs at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile, StorageError
from yuegguf.lm.protocol import TokenEngine
from yuegguf.lm.vocab import Stage2Vocab
from yuegguf.pipeline import draft_phase
from yuegguf.pipeline.draft_phase import Conditioning, DraftWork
from yuegguf.pipeline.engines import EngineFactory
from yuegguf.pipeline.write_audio import file_extras, write_draft, write_song
from yuegguf.planning.plan import Plan
from yuegguf.progress import Event, Progress
from yuegguf.request.song_request import SongRequest
from yuegguf.song.conditioning import same_voice
from yuegguf.song.encoding import reference_codes
from yuegguf.song.folder import SongFolder
from yuegguf.song.kept_part import KeptPart
from yuegguf.song.markers import write_markers
from yuegguf.song.record import Phase
from yuegguf.song.recordings import encode_guide_track, track_index
from yuegguf.song.state import finished_sections, where
from yuegguf.stages import stage2
from yuegguf.stages.batching import Place, StepGenerator
from yuegguf.stages.single_wave import refine_wave
from yuegguf.stages.stage1_task import ForcedTrack
from yuegguf.stages.stage2 import Chunk


@contextmanager
def _timed(folder: SongFolder, phase: Phase, spent: float = 0.0) -> Iterator[list[Phase]]:
    """Note the seconds of a phase, even if it fails, and the state that follows, which the caller appends.

    `spent` are seconds of it before this.
    """
    started, following = time.monotonic() - spent, list[Phase]()
    with _failure_timed(folder, phase, started):
        yield following
    note_seconds(folder, phase, time.monotonic() - started, following[0])


@contextmanager
def _failure_timed(folder: SongFolder, phase: Phase, started: float) -> Iterator[None]:
    """Note the seconds of a phase that fails."""
    try:
        yield
    except DamagedFile:  # nothing changes in a folder that is refused
        raise
    except BaseException:
        with suppress(StorageError):  # a full disk, of which the failure itself speaks
            note_seconds(folder, phase, time.monotonic() - started)
        raise


def note_seconds(folder: SongFolder, phase: Phase, seconds: float, state: Phase | None = None) -> None:
    """Add to the seconds of a phase in song.json, and enter the next `state`."""
    total = round(folder.record.seconds.get(phase, 0.0) + seconds, 1)
    folder.advance(state or folder.state, seconds={**folder.record.seconds, phase: total})


def encode_inputs(folder: SongFolder, parts: EngineFactory, progress: Progress) -> float:
    """Encode what a draft is conditioned on, and keep it in the folder; returns the seconds of it.

    It is done before stage 1 is loaded, but for a song that joins others beside the open model. Raises
    YueError.
    """
    started = time.monotonic()
    with _failure_timed(folder, "draft", started):
        _conditioning(folder, parts, progress)
    return time.monotonic() - started


def draft_steps(folder: SongFolder, work: DraftWork, spent: float, place: Place) -> StepGenerator[None]:
    """The draft of a song at its place in a batch, after `spent` seconds for its inputs. Raises YueError."""
    with _timed(folder, "draft", spent) as following:
        given = _conditioning(folder, work.parts, work.progress)
        yield from draft_phase.draft_steps(folder, given, work, place)
        following.append("refine")


def write_audio(folder: SongFolder, parts: EngineFactory, progress: Progress) -> None:
    """Write the audio of a draft that was asked for, or of a refined song, where that comes next.

    Raises YueError.
    """
    while (phase := where(folder)) in ("sketch", "master"):
        with _timed(folder, phase) as following:
            following.append((_sketch if phase == "sketch" else _master)(folder, parts, progress))


def _conditioning(folder: SongFolder, parts: EngineFactory, progress: Progress) -> Conditioning:
    """Conditioning of stage 1: the reference, and the guide track."""
    request = folder.request
    reference, track = _reference(folder, request, parts, progress), _track(folder, parts, progress)
    forced, recorded = None, request.track is not None and request.track.file is not None
    if track is not None and request.track is not None:
        forced = ForcedTrack(track_index(request.track), track[0][0], recorded)
    # a recording may be silent for as long as it likes
    checked = request.retries > 0 and not recorded
    return Conditioning(reference, forced, _silence(folder, parts) if checked else None)


def _silence(folder: SongFolder, parts: EngineFactory) -> int:
    """The codec's code of silence; found once, then noted in song.json."""
    if folder.record.silence is None:
        folder.advance(folder.state, silence=parts.silence())
    assert folder.record.silence is not None
    return folder.record.silence


def _track(
    folder: SongFolder, parts: EngineFactory, progress: Progress
) -> tuple[NDArray[np.int16], NDArray[np.float32] | None] | None:
    """The given track's codes and recording; made once, then kept in the folder."""
    request = folder.request
    if request.track is None:
        return None
    if (kept := folder.load_guide_track()) is None:
        with closing(parts.codec()) as codec:
            frames = sum(folder.frame_caps())
            noted = _within_draft(folder, progress)
            kept = encode_guide_track(request.track, codec, frames, parts.room(), noted)
        folder.save_guide_track(*kept)
    return kept


def _within_draft(folder: SongFolder, progress: Progress) -> Progress:
    """Progress of an encoding before the first frame of a draft: its notes and warnings alone."""
    return lambda event: progress(replace(event, phase="draft", done=0, total=folder.song.frames))


def _sketch(folder: SongFolder, parts: EngineFactory, progress: Progress) -> Phase:
    """Render codebook 0 quickly, for the user to choose by."""
    codes, _ = folder.load_stage1()
    progress(Event("draft", codes.shape[1], codes.shape[1], "writing the draft"))
    output = replace(folder.request.output, stems=folder.early.draft == "stems")
    with closing(parts.codec()) as codec:
        extra = file_extras(folder, codes.shape[1])
        files = write_draft(codes, codec, output, folder.path, folder.title, extra=extra)
    write_markers(folder)
    folder.advance("refine", draft_files=tuple(path.name for path in files))
    return "refine"


def _reference(
    folder: SongFolder, request: SongRequest, parts: EngineFactory, progress: Progress
) -> NDArray[np.int16] | None:
    """The reference's codes; encoded once, then kept in the folder."""
    wanted = request.reference
    if wanted is None:
        return None
    kept = folder.load_reference()
    if kept is None:
        if wanted.voice is not None:
            kept = same_voice(wanted.voice, wanted)
        else:
            progress(Event("draft", 0, folder.song.frames, "encoding the reference"))
            with closing(parts.codec()) as codec:
                kept = reference_codes(wanted, codec, parts.room(), _within_draft(folder, progress))
        folder.save_reference(kept)
    return kept


@dataclass(frozen=True)
class Draft:
    """Codes of a draft that stage 2 refines, and those kept of an earlier song."""

    codes0: NDArray[np.int16]
    """Codebook 0 [2, T] without what is kept."""
    span: slice
    """Frames of the song that these are."""
    tracks: Sequence[int]
    """Tracks that are refined: all but a given one."""
    kept: KeptPart | None
    """Refined codes before and after."""

    @property
    def lengths(self) -> list[int]:
        """Frames of the chunks to refine, the longest first."""
        return stage2.distinct_lengths(self.codes0, self.tracks)


def load_draft(folder: SongFolder) -> Draft:
    """Read what stage 2 refines. Raises DamagedFile."""
    codes0, kept = folder.load_stage1()[0], folder.load_kept_part()
    if kept and not kept.surrounds(codes0):
        raise DamagedFile(
            f"{folder.path / 'stage1.npz'} does not begin and end with the part that the song continues",
            "delete stage1.npz and resume to make it again",
        )
    given = None if folder.request.track is None else track_index(folder.request.track)
    span = slice(0, codes0.shape[1])
    if kept and kept.refined:  # chunks are counted from where it ends
        span = slice(kept.before.shape[2], codes0.shape[1] - kept.after.shape[2])
    tracks = [track for track in stage2.BOTH_TRACKS if track != given]
    return Draft(codes0[:, span], span, tracks, kept if kept and kept.refined else None)


@dataclass(frozen=True)
class WavePlan:
    """The waves of a song's refinement, as one machine would compute them."""

    codes0: NDArray[np.int16]
    """Codebook 0 [2, T] of the frames that are refined."""
    tracks: tuple[int, ...]
    rows: int
    """Sequences of the engine, and chunks of a wave."""
    waves: tuple[tuple[Chunk, ...], ...]
    waves_to_do: tuple[int, ...]
    """Numbers of the waves of which chunks are missing."""

    def refine(self, wave: int, engine: TokenEngine, vocab: Stage2Vocab) -> dict[Chunk, NDArray[np.int16]]:
        """Codes [8, frames] of a wave's chunks, by an engine of `rows` sequences. Raises EngineError."""
        return refine_wave(self.codes0, wave, engine, vocab, self.tracks)


def wave_plan(folder: SongFolder, plan: Plan, progress: Progress) -> WavePlan:
    """The waves of a drafted song that is refined alone. Raises DamagedFile."""
    draft = load_draft(folder)
    rows = stage2.best_rows(draft.lengths, plan.stage2_rows, plan.step_effort)
    done = _whole_chunks(folder, draft.codes0, draft.tracks, progress)
    waves = tuple(tuple(wave) for wave in stage2.waves_of(draft.codes0, rows, draft.tracks))
    to_do = tuple(number for number, wave in enumerate(waves) if not done.keys() >= set(wave))
    return WavePlan(draft.codes0, tuple(draft.tracks), rows, waves, to_do)


@contextmanager
def refining(
    folder: SongFolder, draft: Draft, rows: int, parts: EngineFactory, progress: Progress
) -> Iterator[stage2.Refinement]:
    """The refinement of a drafted song in waves of `rows` chunks, which must be complete at the end.

    Every chunk is kept as it ends. Raises YueError.
    """
    with _timed(folder, "refine") as following:
        track = _track(folder, parts, progress)

        def keep(chunk: Chunk, codes: NDArray[np.int16]) -> None:
            folder.save_chunk(chunk.track, chunk.start, codes)

        done = _whole_chunks(folder, draft.codes0, draft.tracks, progress)
        refinement = stage2.Refinement(
            draft.codes0, rows, done=done, keep=keep, progress=progress, tracks=draft.tracks
        )
        yield refinement
        new = refinement.codes()
        if track is not None and folder.request.track is not None:
            new[track_index(folder.request.track)] = track[0][:, draft.span]
        whole = [draft.kept.before, new, draft.kept.after] if draft.kept else [new]
        folder.save_stage2(np.concatenate(whole, axis=2))
        folder.delete_folder("chunks")
        following.append("master")


def _whole_chunks(
    folder: SongFolder, codes0: NDArray[np.int16], tracks: Sequence[int], progress: Progress
) -> dict[Chunk, NDArray[np.int16]]:
    """The chunks of stage 2 that are done; a damaged one is made again, with a warning."""
    done = {}
    for chunk in stage2.chunk_grid(codes0.shape[1], tracks):
        span = codes0[chunk.track, chunk.start : chunk.start + chunk.frames]
        try:
            kept = folder.load_chunk(chunk.track, chunk.start, chunk.frames)
            if kept is not None and not np.array_equal(kept[0], span):
                raise DamagedFile(f"chunk {chunk.start} is not of these codes")
        except DamagedFile as error:
            progress(Event("refine", 0, 1, warning=f"{error.message}; it is refined again"))
            continue
        if kept is not None:
            done[chunk] = kept
    return done


def _master(folder: SongFolder, parts: EngineFactory, progress: Progress) -> Phase:
    codes = folder.load_codes()
    sections, extra = finished_sections(folder), file_extras(folder, codes.shape[2])
    output, title = folder.request.output, folder.title
    with closing(parts.codec()) as codec:
        files = write_song(
            codes, codec, output, folder.path, title, progress=progress, extra=extra, renderer=parts.render
        )
    write_markers(folder)
    folder.advance(
        "master",
        files=tuple(path.name for path in files),
        sections=tuple(sections),
    )
    return "done"
