"""One song from request to files: open what a phase needs, run it, close it, keep the folder.

Every phase starts from the folder, so running and resuming are the same function.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile, StorageError
from yuegguf.lm.vocab import stage2_vocab
from yuegguf.pipeline import draft_phase
from yuegguf.pipeline.draft_phase import Conditioning
from yuegguf.pipeline.engines import EngineFactory
from yuegguf.pipeline.write_audio import file_extras, write_draft, write_song
from yuegguf.planning.plan import Plan
from yuegguf.progress import Event, Progress, silent
from yuegguf.request.song_request import GuideTrack, Song, SongRequest
from yuegguf.song import voices
from yuegguf.song.encoding import reference_codes
from yuegguf.song.folder import SongFolder
from yuegguf.song.markers import write_markers
from yuegguf.song.record import Phase
from yuegguf.song.recordings import encode_guide_track, silence_codes, track_index
from yuegguf.song.state import finished, finished_sections, where
from yuegguf.stages import stage2
from yuegguf.stages.stage1_task import ForcedTrack
from yuegguf.stages.stage2 import Chunk


def work(folder: SongFolder, plan: Plan, parts: EngineFactory, progress: Progress = silent) -> Song:
    """Bring a song from wherever it is to its end, or to the end of the draft that was asked for.

    Raises YueError of any kind; what was finished before stays in the folder, and calling this again
    goes on there. `plan` must be the one the song was started with.
    """
    with folder.claimed():
        _work(folder, plan, parts, progress)
    return finished(folder)


def _work(folder: SongFolder, plan: Plan, parts: EngineFactory, progress: Progress) -> None:
    phases: dict[Phase, Callable[[SongFolder, Plan, EngineFactory, Progress], Phase]]
    phases = {"draft": _draft, "sketch": _sketch, "refine": _refine, "master": _master}
    while (phase := where(folder)) != "done":
        with _timed([folder], phase) as following:
            following.append(phases[phase](folder, plan, parts, progress))


@contextmanager
def _timed(folders: Sequence[SongFolder], phase: Phase) -> Iterator[list[Phase]]:
    """Note what a phase took, even if it fails, and the state that follows, which the caller appends."""
    started, following = time.monotonic(), list[Phase]()
    try:
        yield following
    except DamagedFile:  # nothing changes in a folder that is refused
        raise
    except BaseException:
        with suppress(StorageError):  # a full disk, of which the failure itself speaks
            _note_seconds(folders, phase, time.monotonic() - started)
        raise
    _note_seconds(folders, phase, time.monotonic() - started, following[0])


def _note_seconds(
    folders: Sequence[SongFolder], phase: Phase, seconds: float, state: Phase | None = None
) -> None:
    """Add to what a phase took in the folders that are in it, and enter the next `state`."""
    for folder in folders:
        total = round(folder.record.seconds.get(phase, 0.0) + seconds, 1)
        folder.advance(state or folder.state, seconds={**folder.record.seconds, phase: total})


def draft_together(
    folders: Sequence[SongFolder], plan: Plan, parts: EngineFactory, progress: Progress = silent
) -> None:
    """Draft the candidates of one song side by side; a folder whose draft is done is left alone.

    Raises YueError; what was drawn stays in the folders, and calling this again goes on there.
    """
    with ExitStack() as claims:
        for folder in folders:
            claims.enter_context(folder.claimed())
        left = [folder for folder in folders if where(folder) == "draft"]
        if left:
            with _timed(left, "draft") as following:
                following.append(_draft_all(left, parts, progress))


def _draft(folder: SongFolder, plan: Plan, parts: EngineFactory, progress: Progress) -> Phase:
    return _draft_all([folder], parts, progress)


def _draft_all(folders: Sequence[SongFolder], parts: EngineFactory, progress: Progress) -> Phase:
    conditioning = [_conditioning(folders[0], parts, progress)]  # before the big model is loaded
    for folder in folders[1:]:
        folder.copy_encodings(folders[0])  # candidates share their conditioning, so it is encoded once
        conditioning.append(_conditioning(folder, parts, progress))
    draft_phase.draft(folders, conditioning, parts, progress)
    return "refine"


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
        with closing(parts.codec()) as codec:
            found = int(silence_codes(codec)[0])
        folder.advance(folder.state, silence=found)
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
            frames = sum(draft_phase.frame_caps(folder))
            kept = encode_guide_track(request.track, codec, frames, parts.room(), progress)
        folder.save_guide_track(*kept)
    return kept


def _sketch(folder: SongFolder, plan: Plan, parts: EngineFactory, progress: Progress) -> Phase:
    """Render codebook 0 quickly, for the user to choose by."""
    codes, _ = folder.load_stage1()
    progress(Event("draft", codes.shape[1], codes.shape[1], "writing the draft"))
    output = replace(folder.request.output, stems=folder.early.draft == "stems")
    with closing(parts.codec()) as codec:
        extra = file_extras(folder, codes.shape[1])
        files = write_draft(codes, codec, output, folder.path, folder.title, extra)
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
            kept = voices.load_voice(wanted.voice).codes
        else:
            progress(Event("draft", 0, folder.song.frames, "encoding the reference"))
            with closing(parts.codec()) as codec:
                kept = reference_codes(wanted, codec, parts.room(), progress)
        folder.save_reference(kept)
    return kept


def _refine(folder: SongFolder, plan: Plan, parts: EngineFactory, progress: Progress) -> Phase:
    codes0, _ = folder.load_stage1()
    base, track = folder.load_kept_part(), _track(folder, parts, progress)
    first, last = (0, codes0.shape[1])
    if base and base.refined:  # chunks are counted from where it ends
        first, last = base.before.shape[2], last - base.after.shape[2]
    tracks = [row for row in stage2.BOTH_TRACKS if track is None or row != track_index(_given(folder))]
    new = _refined(folder, codes0[:, first:last], tracks, plan, parts, progress)
    if track is not None:
        new[track_index(_given(folder))] = track[0][:, first:last]
    whole = [base.before, new, base.after] if base and base.refined else [new]
    folder.save_stage2(np.concatenate(whole, axis=2))
    folder.delete_folder("chunks")
    return "master"


def _given(folder: SongFolder) -> GuideTrack:
    wanted = folder.request.track
    assert wanted
    return wanted


def _refined(
    folder: SongFolder,
    codes0: NDArray[np.int16],
    tracks: Sequence[int],
    plan: Plan,
    parts: EngineFactory,
    progress: Progress,
) -> NDArray[np.int16]:
    """Codebook 0 [2, T] → codes [2, 8, T] of some tracks; every chunk is kept as it ends."""
    done = _whole_chunks(folder, codes0, tracks, progress)

    def keep(chunk: Chunk, codes: NDArray[np.int16]) -> None:
        folder.save_chunk(chunk.track, chunk.start, codes)

    if not codes0.shape[1]:
        return np.zeros((2, 8, 0), np.int16)
    rows = stage2.rows_for(codes0, plan.stage2_rows, plan.step_effort, tracks)
    with closing(parts.stage2(rows)) as engine:
        vocab = stage2_vocab(engine.pieces)
        return stage2.refine_codes(
            codes0, engine, vocab, done=done, keep=keep, progress=progress, tracks=tracks
        )


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


def _master(folder: SongFolder, plan: Plan, parts: EngineFactory, progress: Progress) -> Phase:
    codes = folder.load_codes()
    sections, extra = finished_sections(folder), file_extras(folder, codes.shape[2])
    output, title = folder.request.output, folder.title
    with closing(parts.codec()) as codec:
        files = write_song(codes, codec, output, folder.path, title, progress, extra)
    write_markers(folder)
    folder.advance(
        "master",
        files=tuple(path.name for path in files),
        sections=tuple(sections),
    )
    return "done"
