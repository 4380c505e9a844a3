"""One song from request to files: open what a phase needs, run it, close it, keep the folder.

Every phase starts from the folder, so running and resuming are the same function.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf import drafting, marks, voices
from yuegguf.audio import read_audio, to_codec_wave
from yuegguf.base import load_base
from yuegguf.codec.base import FRAME_RATE, SONG_HOP, AudioCodec
from yuegguf.drafting import Heard
from yuegguf.given import given_track, silence
from yuegguf.marks import marks_of
from yuegguf.output import Extra, write_draft, write_song
from yuegguf.parts import Parts
from yuegguf.plan import Plan
from yuegguf.progress import Event, Progress, silent
from yuegguf.request import GivenTrack, Reference, Song, SongRequest, SungSection
from yuegguf.song import SongFolder, sections_of
from yuegguf.stages import prompt, render, stage2
from yuegguf.stages.draft import Forced
from yuegguf.stages.stage2 import Chunk
from yuegguf.vocab import stage2_vocab


def work(folder: SongFolder, plan: Plan, parts: Parts, progress: Progress = silent) -> Song:
    """Bring a song from wherever it is to its end, or to the end of the draft that was asked for.

    Raises YueError of any kind; what was finished before stays in the folder, and calling this again
    goes on there. `plan` must be the one the song was started with.
    """
    folder.lock()
    try:
        _work(folder, plan, parts, progress)
    finally:
        folder.unlock()
    return finished(folder)


def _work(folder: SongFolder, plan: Plan, parts: Parts, progress: Progress) -> None:
    phases = {"draft": _draft, "sketch": _sketch, "refine": _refine, "master": _master}
    while (phase := next_phase(folder)) != "done":
        with _timed([folder], phase) as following:
            following.append(phases[phase](folder, plan, parts, progress))


@contextmanager
def _timed(folders: Sequence[SongFolder], phase: str) -> Iterator[list[str]]:
    """Note what a phase took, and the one that follows, which the caller appends."""
    started, following = time.monotonic(), list[str]()
    yield following
    for folder in folders:
        seconds = dict(folder.fact("seconds") or {})
        seconds[phase] = round(seconds.get(phase, 0) + time.monotonic() - started, 1)
        folder.advance(following[0], seconds=seconds)


def draft_together(
    folders: Sequence[SongFolder], plan: Plan, parts: Parts, progress: Progress = silent
) -> None:
    """Draft the candidates of one song side by side; a folder whose draft is done is left alone.

    Raises YueError; what was drawn stays in the folders, and calling this again goes on there.
    """
    with ExitStack() as locks:
        for folder in folders:
            folder.lock()
            locks.callback(folder.unlock)
        left = [folder for folder in folders if next_phase(folder) == "draft"]
        if left:
            with _timed(left, "draft") as following:
                following.append(_draft_all(left, parts, progress))


def next_phase(folder: SongFolder) -> str:
    """Where to go on: the phase that song.json notes, or the one whose result is gone.

    "done" where all is there that was asked for, which may be a draft.
    """
    if folder.state == "draft" or not (folder.path / "stage1.npz").exists():
        return "draft"
    if folder.state == "refine" and folder.early.draft:
        return "done" if _there(folder, "draft_files") else "sketch"
    if folder.state == "refine" or not (folder.path / "stage2.npz").exists():
        return "refine"
    return folder.state if _there(folder, "files") else "master"


def _there(folder: SongFolder, fact: str) -> bool:
    """Whether the files that song.json notes are in the folder; false if it notes none."""
    names = folder.fact(fact) or []
    return bool(names) and all((folder.path / name).exists() for name in names)


def finished(folder: SongFolder) -> Song:
    """The song of a folder whose files are written, or the draft where it rests."""
    frames = folder.load_stage1()[0].shape[1]
    files = tuple(folder.path / name for name in folder.fact("draft_files" if folder.rests else "files"))
    sections = tuple(sung_sections(folder))
    return Song(folder.path, frames / FRAME_RATE, folder.request.seed, files, sections, folder.rests)


def sung_sections(folder: SongFolder) -> list[SungSection]:
    """Where the sections of a drafted song lie."""
    labels = [section.label for section in folder.request.parsed().sections]
    _, frames = folder.load_stage1()
    complete = [bool(n < cap) for n, cap in zip(frames, folder.request.frame_caps(), strict=False)]
    return sections_of(labels, [int(n) for n in frames], complete, folder.fact("faults") or {})


def _draft(folder: SongFolder, plan: Plan, parts: Parts, progress: Progress) -> str:
    return _draft_all([folder], parts, progress)


def _draft_all(folders: Sequence[SongFolder], parts: Parts, progress: Progress) -> str:
    heard = [_heard(folders[0], parts, progress)]  # before the big model is loaded
    for folder in folders[1:]:
        folder.take_over(folders[0])  # candidates hear the same, so it is encoded once
        heard.append(_heard(folder, parts, progress))
    drafting.draft(folders, heard, parts, progress)
    return "refine"


def _heard(folder: SongFolder, parts: Parts, progress: Progress) -> Heard:
    """What stage 1 is to hear: the reference, and the given track."""
    request = folder.request
    reference, track = _reference(folder, request, parts, progress), _track(folder, parts)
    forced, recorded = None, request.track is not None and request.track.file is not None
    if track is not None and request.track is not None:
        forced = Forced(row_of(request.track), track[0][0], recorded)
    # a recording may be silent for as long as it likes
    judged = request.retries > 0 and not recorded
    return Heard(reference, forced, _silence(folder, parts) if judged else None)


def _silence(folder: SongFolder, parts: Parts) -> int:
    """The codec's code of silence; found once, then noted in song.json."""
    if (noted := folder.fact("silence")) is None:
        with closing(parts.codec()) as codec:
            noted = int(silence(codec)[0])
        folder.advance(folder.state, silence=noted)
    return int(noted)


def row_of(track: GivenTrack) -> int:
    """Its row among codes and stems."""
    return render.TRACKS.index(track.track)


def _track(folder: SongFolder, parts: Parts) -> tuple[NDArray[np.int16], NDArray[np.float32] | None] | None:
    """The given track's codes and recording; made once, then kept in the folder."""
    request = folder.request
    if request.track is None:
        return None
    if (kept := folder.load_track()) is None:
        with closing(parts.codec()) as codec:
            kept = given_track(request.track, codec, sum(drafting.caps_of(folder)))
        folder.save_track(*kept)
    return kept


def _sketch(folder: SongFolder, plan: Plan, parts: Parts, progress: Progress) -> str:
    """A quick rendering of what stage 1 drew, for the user to judge."""
    codes, _ = folder.load_stage1()
    progress(Event("draft", codes.shape[1], codes.shape[1], "writing the draft"))
    output = replace(folder.request.output, stems=folder.early.draft == "stems")
    with closing(parts.codec()) as codec:
        extra = extra_of(folder, codes.shape[1])
        files = write_draft(codes, codec, output, folder.path, _title(folder), extra)
    _write_marks(folder)
    folder.advance("refine", draft_files=[path.name for path in files])
    return "refine"


def _reference(
    folder: SongFolder, request: SongRequest, parts: Parts, progress: Progress
) -> NDArray[np.int16] | None:
    """The reference's codes; encoded once, then kept in the folder."""
    wanted = request.reference
    if wanted is None:
        return None
    kept = folder.load_reference()
    if kept is None:
        if wanted.voice is not None:
            kept = voices.load(wanted.voice).codes
        else:
            progress(Event("draft", 0, sum(request.frame_caps()), "listening to the reference"))
            with closing(parts.codec()) as codec:
                kept = reference_codes(wanted, codec, progress)
        folder.save_reference(kept)
    return kept


def reference_codes(wanted: Reference, codec: AudioCodec, progress: Progress = silent) -> NDArray[np.int16]:
    """Encode a reference's whole files, then cut the window, as upstream does → codes [N].

    Tracks of different length are cut to the shorter, with a warning. Raises RequestError.
    """
    if wanted.mix is not None:
        return prompt.single_reference(encode_file(Path(wanted.mix), codec), wanted.start, wanted.end)
    assert wanted.vocal
    assert wanted.instrumental
    vocal, instrumental = encode_stems(Path(wanted.vocal), Path(wanted.instrumental), codec, progress)
    return prompt.dual_reference(vocal, instrumental, wanted.start, wanted.end)


def encode_stems(
    vocal: Path, instrumental: Path, codec: AudioCodec, progress: Progress = silent
) -> NDArray[np.int16]:
    """The two recordings of one song → codes [2, 8, T]; the longer is cut to the shorter, with a warning.

    Raises RequestError.
    """
    tracks = [encode_file(path, codec) for path in (vocal, instrumental)]
    lengths = [track.shape[1] for track in tracks]
    if lengths[0] != lengths[1]:
        told = (
            f"{path.name} is {n / FRAME_RATE:g} s"
            for path, n in zip((vocal, instrumental), lengths, strict=True)
        )
        text = f"{' and '.join(told)} long: the longer track is cut to the shorter"
        progress(Event("draft", 0, 1, warning=text))
    return np.stack([track[:, : min(lengths)] for track in tracks])


def encode_file(path: Path, codec: AudioCodec) -> NDArray[np.int16]:
    """An audio file of any rate and channel count → codes [8, T]. Raises RequestError."""
    return codec.encode(to_codec_wave(*read_audio(path)))


def _refine(folder: SongFolder, plan: Plan, parts: Parts, progress: Progress) -> str:
    codes0, _ = folder.load_stage1()
    base, track = load_base(folder.path), _track(folder, parts)
    first, last = (0, codes0.shape[1])
    if base and base.refined:  # chunks are counted from where it ends
        first, last = base.before.shape[2], last - base.after.shape[2]
    tracks = [row for row in stage2.BOTH if track is None or row != row_of(_given(folder))]
    new = _refined(folder, codes0[:, first:last], tracks, plan, parts, progress)
    if track is not None:
        new[row_of(_given(folder))] = track[0][:, first:last]
    whole = [base.before, new, base.after] if base and base.refined else [new]
    folder.save_stage2(np.concatenate(whole, axis=2))
    folder.drop("chunks")
    return "master"


def _given(folder: SongFolder) -> GivenTrack:
    wanted = folder.request.track
    assert wanted
    return wanted


def _refined(
    folder: SongFolder,
    codes0: NDArray[np.int16],
    tracks: Sequence[int],
    plan: Plan,
    parts: Parts,
    progress: Progress,
) -> NDArray[np.int16]:
    """Codebook 0 [2, T] → codes [2, 8, T] of some tracks; every chunk is kept as it ends."""
    done = {}
    for chunk in stage2.chunks(codes0.shape[1], tracks):
        kept = folder.load_chunk(chunk.track, chunk.start, chunk.frames)
        if kept is not None:
            done[chunk] = kept

    def keep(chunk: Chunk, codes: NDArray[np.int16]) -> None:
        folder.save_chunk(chunk.track, chunk.start, codes)

    if not codes0.shape[1]:
        return np.zeros((2, 8, 0), np.int16)
    rows = stage2.rows_for(codes0, plan.stage2_rows, plan.step_effort, tracks)
    with closing(parts.stage2(rows)) as engine:
        vocab = stage2_vocab(engine.pieces)
        return stage2.run(codes0, engine, vocab, done, keep, progress, tracks)


def _master(folder: SongFolder, plan: Plan, parts: Parts, progress: Progress) -> str:
    codes = folder.load_stage2()
    sections, extra = sung_sections(folder), extra_of(folder, codes.shape[2])
    with closing(parts.codec()) as codec:
        files = write_song(codes, codec, folder.request.output, folder.path, _title(folder), progress, extra)
    _write_marks(folder)
    folder.advance(
        "master",
        files=[path.name for path in files],
        sections=[asdict(section) for section in sections],
    )
    return "done"


def extra_of(folder: SongFolder, frames: int) -> Extra:
    """What goes into a drafted song's files beside its codes. Raises DamagedFile."""
    return Extra(_recording(folder, frames), marks_of(sung_sections(folder)))


def _recording(folder: SongFolder, frames: int) -> render.Recording | None:
    """The given track of a song as it is heard, or None. Raises DamagedFile."""
    wanted, kept = folder.request.track, folder.load_track()
    if wanted is None or wanted.re_encode or kept is None:
        return None
    wave = kept[1]
    return render.Recording(row_of(wanted), None if wave is None else wave[: SONG_HOP * frames])


def _write_marks(folder: SongFolder) -> None:
    bodies = [section.body for section in folder.request.parsed().sections]
    marks.write(folder.path, sung_sections(folder), bodies, _title(folder))


def _title(folder: SongFolder) -> str:
    return str(folder.fact("title") or folder.request.genre)
