"""One song from request to files: open what a phase needs, run it, close it, keep the folder.

Every phase starts from the folder, so running and resuming are the same function.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio import Tags, read_audio, to_codec_wave, write_audio
from yuegguf.codec.base import FRAME_RATE, AudioCodec, Track
from yuegguf.engine.base import TokenEngine
from yuegguf.errors import RequestError
from yuegguf.plan import Plan
from yuegguf.preview import Preview, previewed
from yuegguf.progress import Event, Progress, silent
from yuegguf.request import Output, Reference, Song, SongRequest, SungSection
from yuegguf.snapshots import CacheFolder
from yuegguf.song import SongFolder, sections_of
from yuegguf.stages import prompt, render, stage1, stage2
from yuegguf.stages.stage2 import Chunk
from yuegguf.tokenizer import Tokenizer
from yuegguf.tokenlog import TokenLog
from yuegguf.vocab import split_tracks, stage1_vocab, stage2_vocab


@dataclass(frozen=True)
class Parts:
    """How to open what the phases need; each is opened when its phase starts and closed after it."""

    stage1: Callable[[], TokenEngine]
    tokenizer: Callable[[TokenEngine], Tokenizer]
    stage2: Callable[[int], TokenEngine]
    """Takes the number of rows."""
    codec: Callable[[], AudioCodec]
    cache_key: str
    """Names the stage-1 model and options; caches of another key are not used."""
    snapshot_seconds: float


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
        started = time.monotonic()
        following = phases[phase](folder, plan, parts, progress)
        seconds = dict(folder.fact("seconds") or {})
        seconds[phase] = round(seconds.get(phase, 0) + time.monotonic() - started, 1)
        folder.advance(following, seconds=seconds)


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
    return sections_of(labels, [int(n) for n in frames], complete)


def _draft(folder: SongFolder, plan: Plan, parts: Parts, progress: Progress) -> str:
    request = folder.request
    reference = _reference(folder, request, parts, progress)
    sections = request.parsed().sections

    def warn(text: str) -> None:
        progress(Event("draft", 0, 1, warning=text))

    with closing(parts.stage1()) as engine, _token_log(folder) as log:
        vocab = stage1_vocab(engine.pieces)
        encode = parts.tokenizer(engine).encode
        draft = stage1.Draft(
            prompt.build(encode, vocab, request.genre, request.all_sections(), sections, reference),
            request.frame_caps(),
            request.sampling,
            request.seed,
            [section.label for section in sections],
            guess_from=plan.guess_from,
        )
        cache = CacheFolder(folder.path / "cache", log, parts.cache_key, parts.snapshot_seconds, warn)
        preview = _preview(folder, parts, warn)
        with previewed(preview, log.drawn, len(sections), progress) as listening:
            sung = stage1.run(draft, engine, vocab, log, cache, listening)
    codes = split_tracks(np.concatenate(sung))
    folder.save_stage1(sung, codes)
    folder.drop("cache")
    return "refine"


def _preview(folder: SongFolder, parts: Parts, warn: Callable[[str], None]) -> Preview | None:
    seconds = folder.early.preview_seconds
    comment = Tags().comment if folder.request.output.tags else ""
    return Preview(folder.path / "preview.wav", parts.codec, seconds, comment, warn) if seconds else None


def _sketch(folder: SongFolder, plan: Plan, parts: Parts, progress: Progress) -> str:
    """A quick rendering of what stage 1 drew, for the user to judge."""
    codes, _ = folder.load_stage1()
    progress(Event("draft", codes.shape[1], codes.shape[1], "writing the draft"))
    output = replace(folder.request.output, stems=folder.early.draft == "stems")
    with closing(parts.codec()) as codec:
        files = write_draft(codes, codec, output, folder.path, _title(folder))
    folder.write_markers(sung_sections(folder))
    folder.advance("refine", draft_files=[path.name for path in files])
    return "refine"


@contextmanager
def _token_log(folder: SongFolder) -> Iterator[TokenLog]:
    with closing(folder.token_log()) as log:
        yield log


def _reference(
    folder: SongFolder, request: SongRequest, parts: Parts, progress: Progress
) -> NDArray[np.int16] | None:
    """The reference's codes; encoded once, then kept in the folder."""
    wanted = request.reference
    if wanted is None:
        return None
    kept = folder.load_reference()
    if kept is None:
        progress(Event("draft", 0, sum(request.frame_caps()), "listening to the reference"))
        with closing(parts.codec()) as codec:
            kept = reference_codes(wanted, codec)
        folder.save_reference(kept)
    return kept


def reference_codes(wanted: Reference, codec: AudioCodec) -> NDArray[np.int16]:
    """Encode a reference's whole files, then cut the window, as upstream does. Raises RequestError."""
    if wanted.mix is not None:
        return prompt.single_reference(encode_file(Path(wanted.mix), codec), wanted.start, wanted.end)
    assert wanted.vocal
    assert wanted.instrumental
    vocal, instrumental = (encode_file(Path(p), codec) for p in (wanted.vocal, wanted.instrumental))
    return prompt.dual_reference(vocal, instrumental, wanted.start, wanted.end)


def encode_file(path: Path, codec: AudioCodec) -> NDArray[np.int16]:
    """An audio file of any rate and channel count → codes [8, T]. Raises RequestError."""
    return codec.encode(to_codec_wave(*read_audio(path)))


def _refine(folder: SongFolder, plan: Plan, parts: Parts, progress: Progress) -> str:
    codes0, _ = folder.load_stage1()
    done = {}
    for chunk in stage2.chunks(codes0.shape[1]):
        kept = folder.load_chunk(chunk.track, chunk.start, chunk.frames)
        if kept is not None:
            done[chunk] = kept

    def keep(chunk: Chunk, codes: NDArray[np.int16]) -> None:
        folder.save_chunk(chunk.track, chunk.start, codes)

    rows = stage2.rows_for(codes0, plan.stage2_rows, plan.step_effort)
    with closing(parts.stage2(rows)) as engine:
        vocab = stage2_vocab(engine.pieces)
        folder.save_stage2(stage2.run(codes0, engine, vocab, done, keep, progress))
    folder.drop("chunks")
    return "master"


def _master(folder: SongFolder, plan: Plan, parts: Parts, progress: Progress) -> str:
    codes = folder.load_stage2()
    with closing(parts.codec()) as codec:
        files = write_song(codes, codec, folder.request.output, folder.path, _title(folder), progress)
    sections = sung_sections(folder)
    folder.write_markers(sections)
    folder.advance(
        "master",
        files=[path.name for path in files],
        sections=[
            {"label": s.label, "start": s.start, "seconds": s.seconds, "complete": s.complete}
            for s in sections
        ],
    )
    return "done"


def write_song(
    codes: NDArray[np.int16],
    codec: AudioCodec,
    output: Output,
    folder: Path,
    title: str,
    progress: Progress = silent,
) -> list[Path]:
    """Codes [2, 8, T] → mix and stems in every format asked for; returns the files, mixes first.

    Raises RequestError, CodecError, StorageError.
    """
    _check_frames(codes)
    waves = render.master(render.render(codes, codec, progress), mix_options(output))
    return _write(waves, ("mix", "vocals", "instrumental"), output, folder, title)


def write_draft(
    codes: NDArray[np.int16], codec: AudioCodec, output: Output, folder: Path, title: str
) -> list[Path]:
    """Codebook 0 [2, T] → `draft` and the drafts of both tracks, by the codec alone; as `write_song`."""
    _check_frames(codes)
    stems = render.Stems(render.rough(codes, codec), np.empty((2, 0), np.float32))
    waves = render.master(stems, replace(mix_options(output), mode="codec"))
    return _write(waves, ("draft", "draft-vocals", "draft-instrumental"), output, folder, title)


def _check_frames(codes: NDArray[np.int16]) -> None:
    if codes.shape[-1] == 0:
        raise RequestError("the song has no frames", "allow longer sections with --segment-seconds")


def _write(
    waves: render.Master, names: tuple[str, str, str], output: Output, folder: Path, title: str
) -> list[Path]:
    """Write the mix, and both tracks if stems are wanted, under these names."""
    tracks = dict(zip(names, (waves.mix, waves.vocals, waves.instrumental), strict=True))
    wanted = names if output.stems else names[:1]
    return [file for name in wanted for file in write_wave(folder / name, tracks[name], output, title)]


def write_track(
    codes: NDArray[np.int16],
    track: Track,
    codec: AudioCodec,
    output: Output,
    path: Path,
    progress: Progress = silent,
) -> list[Path]:
    """One track's codes [8, T] → `path` in every format asked for. Raises CodecError, StorageError."""
    wave = render.render_track(codes, track, codec, mix_options(output), progress)
    return write_wave(path, wave, output, path.name)


def write_wave(path: Path, wave: NDArray[np.float32], output: Output, title: str) -> list[Path]:
    """One wave [S] at 44.1 kHz → `path` with the ending of every format asked for. Raises StorageError."""
    tags = Tags(title=title.strip()) if output.tags else None
    files = [path.with_name(f"{path.name}.{kind}") for kind in output.formats]
    for file, kind in zip(files, output.formats, strict=True):
        write_audio(file, wave, kind, output.bits, tags)
    return files


def _title(folder: SongFolder) -> str:
    return str(folder.fact("title") or folder.request.genre)


def mix_options(output: Output) -> render.MixOptions:
    """The part of the output options that the mix is made from."""
    return render.MixOptions(output.mix, output.vocal_gain, output.inst_gain, output.rescale)
