"""Recordings with timed lyrics → the JSONL and codes that YuE's finetuning reads (`finetune/README.md`).

One folder a song: `vocals.*`, `instrumental.*`, `lyrics.lrc`, `tags.txt`, and `mix.*` if it is not their sum.
In the .lrc, a timed label opens a section, which ends where the next begins:

    [00:12.50][verse]
    [00:13.00] Staring at the sunset
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio.recording import open_recording
from yuegguf.codec.protocol import FRAME_RATE, AudioCodec
from yuegguf.errors import DamagedFile, RequestError
from yuegguf.files import typed_json
from yuegguf.files.arrays import check_codes, load_array, save_array
from yuegguf.files.atomic import replacing, storage_errors
from yuegguf.files.kinds import HEAD_BYTES, check_text
from yuegguf.files.reading import open_plain_file
from yuegguf.progress import Event, Progress, silent
from yuegguf.request.changes import Kind, shortened
from yuegguf.request.lyrics import Section, parse_lyrics
from yuegguf.request.text_decoding import decode_text
from yuegguf.request.valid_text import MAX_LYRICS_BYTES, MAX_LYRICS_CHARS
from yuegguf.song.encoding import EncodingMemory, audio_source, encode_source, sum_sources

DATASET_TRACKS = ("mix", "vocals", "instrumental")
CODEC_KEYS = {"mix": "codec", "vocals": "vocals_codec", "instrumental": "instrumental_codec"}
"""Track → its key in a JSONL row."""
MAX_FRAMES_APART = 10
"""Most frames by which the tracks of a song may differ; finetuning skips a song with more."""
MIN_SECTION_SECONDS = 1.0
"""Least seconds of a section; finetuning skips shorter ones."""

_TIMED = re.compile(r"^\s*\[([0-9]{1,6}):([0-9]{1,6}(?:\.[0-9]{1,9})?)\]\s*(.*)$")
_HARMLESS = (Kind.LABEL, Kind.COMPOSED, Kind.INVISIBLE, Kind.BRACKETS)
"""Changes of lyrics that leave no words out."""
_TAG = re.compile(r"^\s*\[[a-z#]+:.*\]\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class TimedSection:
    """A section and its start in seconds."""

    start: float
    section: Section


@dataclass(frozen=True)
class SongFiles:
    """Files of one song's folder."""

    name: str
    tracks: dict[str, Path]
    """Track of DATASET_TRACKS → recording; without "mix" if it is the sum of the others."""
    sections: tuple[TimedSection, ...]
    tags: str


def read_songs(folder: Path, out: Path) -> list[SongFiles]:
    """All songs in the subfolders of a folder, by name; hidden ones and the codes beside OUT are none.

    Raises RequestError naming what one lacks.
    """
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a folder", "pass one that holds a folder for each song")
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."]
    found = [read_song(path) for path in folders if not _is_output(path, out)]
    if not found:
        raise RequestError(f"{folder} holds no song", "make a folder for each song in it")
    return found


def _is_output(path: Path, out: Path) -> bool:
    """Whether a folder is the one of the codes beside OUT, and not a song of that name."""
    folder = os.path.realpath(_codes_folder(out))
    return os.path.realpath(path) == folder and not (path / "lyrics.lrc").exists()


def read_song(folder: Path) -> SongFiles:
    """One song's folder. Raises RequestError naming what it lacks."""
    tracks = {name: path for name in DATASET_TRACKS if (path := _find_recording(folder, name))}
    for name in ("vocals", "instrumental"):
        if name not in tracks:
            raise RequestError(f"{folder} has no {name}", f"put a recording there: {name}.wav")
    lyrics, tags = (_read_text(folder / name) for name in ("lyrics.lrc", "tags.txt"))
    if not tags.strip():
        raise RequestError(f"{folder / 'tags.txt'} is empty", "write the song's genre tags into it")
    try:
        return SongFiles(folder.name, tracks, timed_sections(lyrics), " ".join(tags.split()))
    except RequestError as error:
        raise RequestError(f"{folder / 'lyrics.lrc'}: {error.message}", error.hint) from error


def timed_sections(text: str) -> tuple[TimedSection, ...]:
    """Sections of an .lrc. Raises RequestError when there is none, or times run backwards."""
    starts: list[float] = []
    plain: list[str] = []
    latest = 0.0
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        timed = _TIMED.match(line)
        if not timed:
            if line.strip() and not _TAG.match(line):
                raise RequestError(f"line {number} has no time", "write [mm:ss.xx] before it")
            continue
        time, words = 60 * int(timed[1]) + float(timed[2]), timed[3].strip()
        if time < latest:
            raise RequestError(f"line {number} is earlier than the line before it", "put them in order")
        latest = time
        if words.startswith("["):
            starts.append(time)
        elif not starts and words:
            raise RequestError(f"line {number} comes before the first label", "open with a timed [verse]")
        plain.append(words)
    parsed = parse_lyrics("\n".join(plain), keep_repeats=True)
    sections = parsed.sections
    if len(sections) != len(starts):
        raise RequestError("a line in brackets is not a section label", "use [verse], [chorus], …")
    if left_out := [change.text for change in parsed.changes if change.kind not in _HARMLESS]:
        raise RequestError(f"{shortened(left_out[0])!r} is no lyrics", "take it out")
    return tuple(TimedSection(start, section) for start, section in zip(starts, sections, strict=True))


def jsonl_row(song: SongFiles, frames: int, codes: dict[str, str]) -> dict[str, Any]:
    """One JSONL row; `codes` maps tracks to file names. Raises RequestError for a section after the end."""
    length = frames / FRAME_RATE
    starts = [part.start for part in song.sections]
    ends = [*starts[1:], length]
    if starts[-1] >= length:
        raise RequestError(
            f"{song.name}: a section begins at {starts[-1]:g} s of {length:g} s", "check lyrics.lrc"
        )
    spans = list(zip(song.sections, starts, ends, strict=True))
    return {
        "id": song.name,
        **{CODEC_KEYS[track]: name for track, name in codes.items()},
        "audio_length_in_sec": length,
        "msa": [{"start": a, "end": b, "label": part.section.label} for part, a, b in spans],
        "genres": song.tags,
        "splitted_lyrics": {
            "segmented_lyrics": [
                {
                    "offset": a,
                    "duration": b - a,
                    "codec_frame_start": round(FRAME_RATE * a),
                    "codec_frame_end": round(FRAME_RATE * b),
                    "line_content": part.section.text,
                }
                for part, a, b in spans
            ]
        },
    }


@dataclass(frozen=True)
class DatasetEncoder:
    """A codec and the memory for encoding."""

    codec: AudioCodec
    codec_id: str = ""
    """Hash of its codebooks."""
    room: EncodingMemory = field(default_factory=EncodingMemory)


@dataclass(frozen=True)
class CodesOrigin:
    """Recordings and codec of a song's codes; codes of another origin are never reused."""

    codec: str
    recordings: dict[str, tuple[int, str]]
    """Track → bytes and sha256 of its file."""


def write_dataset(
    songs: Sequence[SongFiles],
    encoder: DatasetEncoder,
    out: Path,
    force: bool = False,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Encode songs and write OUT, with the codes in a folder `codes` beside it; returns the rows.

    Codes of the same recordings are reused, so an interrupted run resumes; codes of others are encoded again
    with `force`, else refused before anything is changed. Warns of sections that finetuning will skip.
    Raises RequestError, NotEnoughMemory, DamagedFile, CodecError, StorageError.
    """
    rows, folder = [], _codes_folder(out)
    origins = {song.name: _codes_origin(song, encoder) for song in songs}
    stale = {song.name for song in songs if not _has_origin(song, folder, origins[song.name])}
    if not force:
        for name in sorted(stale):
            _refuse_to_replace(name, folder)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for number, song in enumerate(songs):
        progress(Event("encode", number, len(songs), song.name))
        files = _codes_files(song.name, folder)
        if song.name in stale:
            _start_song(song.name, folder, origins[song.name])
        frames = _encode_missing(song, encoder, files, _notes_of(progress, number, len(songs)))
        line = jsonl_row(
            song, frames, {track: str(file.relative_to(out.parent)) for track, file in files.items()}
        )
        for part in line["msa"]:
            if part["end"] - part["start"] < MIN_SECTION_SECONDS:
                text = f"{song.name}: [{part['label']}] is shorter than a second; finetuning will skip it"
                progress(Event("encode", 0, 1, warning=text))
        rows.append(line)
    with replacing(out) as beside:
        beside.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in rows), "utf-8")
    return rows


def _notes_of(progress: Progress, done: int, total: int) -> Progress:
    """The callback of a song's encoding, whose parts do not count: its notes and warnings alone."""
    return lambda event: progress(replace(event, done=done, total=total))


def _codes_folder(out: Path) -> Path:
    return out.parent / "codes"


def _codes_files(name: str, folder: Path) -> dict[str, Path]:
    """Track → file of a song's codes."""
    return {track: folder / f"{name}.{track}.npy" for track in DATASET_TRACKS}


def _origin_file(name: str, folder: Path) -> Path:
    """File with the origin of a song's codes."""
    return folder / f"{name}.origin.json"


def _codes_origin(song: SongFiles, encoder: DatasetEncoder) -> CodesOrigin:
    """Origin of codes encoded now from a song's recordings. Raises RequestError."""
    found = {}
    for track, path in song.tracks.items():
        try:
            with open_plain_file(path) as file:
                found[track] = path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise RequestError(f"{path} cannot be read ({error.strerror})", "check the file") from error
    return CodesOrigin(encoder.codec_id, found)


def _has_origin(song: SongFiles, folder: Path, origin: CodesOrigin) -> bool:
    """Whether a song's existing codes have this origin."""
    note = _origin_file(song.name, folder)
    try:
        return typed_json.read_file(note, CodesOrigin, "") == origin
    except (OSError, DamagedFile):
        return False


def _refuse_to_replace(name: str, folder: Path) -> None:
    """Raise RequestError if a song has codes of another origin."""
    for file in _codes_files(name, folder).values():
        if os.path.lexists(file):
            raise RequestError(
                f"{file} was made from other recordings, or with another codec",
                "pass --force to make it again, or choose another folder",
            )


def _start_song(name: str, folder: Path, origin: CodesOrigin) -> None:
    """Delete a song's codes, then write the origin of the next ones. Raises StorageError."""
    for file in _codes_files(name, folder).values():
        with storage_errors(file):
            file.unlink(missing_ok=True)
    with replacing(_origin_file(name, folder)) as beside:
        beside.write_text(json.dumps(asdict(origin), indent=1) + "\n", "utf-8")


def _encode_missing(
    song: SongFiles, encoder: DatasetEncoder, files: dict[str, Path], progress: Progress
) -> int:
    """Encode the missing codes of all tracks, each [1, T] in int64; returns T."""
    if not all(file.is_file() for file in files.values()):
        sources = {name: audio_source(open_recording(path)) for name, path in song.tracks.items()}
        if "mix" not in sources:
            sources["mix"] = sum_sources(f"{song.name}'s mix", sources["vocals"], sources["instrumental"])
        lengths = {name: sources[name].frames for name in DATASET_TRACKS}
        if max(lengths.values()) - min(lengths.values()) > MAX_FRAMES_APART:
            listed = ", ".join(f"{name} {count}" for name, count in lengths.items())
            raise RequestError(
                f"{song.name}: the tracks have different lengths ({listed} frames)", "cut them alike"
            )
        window = slice(0, min(lengths.values()))
        for name, file in files.items():
            if file.is_file():
                continue
            codes = encode_source(sources[name], encoder.codec, encoder.room, window, progress)
            save_array(file, codes[:1].astype(np.int64))
    return min(int(_load_codes(file).shape[1]) for file in files.values())


def _load_codes(file: Path) -> NDArray[np.int64]:
    codes = load_array(file)
    check_codes(codes, (1, None), str(file))
    return codes


def _find_recording(folder: Path, name: str) -> Path | None:
    found = sorted(path for path in folder.glob(f"{name}.*") if path.suffix != ".npy")
    if len(found) > 1:
        raise RequestError(f"{folder} has several recordings called {name}", "leave one")
    return found[0] if found else None


def _read_text(path: Path) -> str:
    try:
        with open_plain_file(path) as file:
            data = file.read(MAX_LYRICS_BYTES + 1)
    except OSError as error:
        raise RequestError(f"{path} cannot be read as text", "put a text file there") from error
    if len(data) > MAX_LYRICS_BYTES:
        raise RequestError(f"{path} is too large", f"use at most {MAX_LYRICS_CHARS:,} characters")
    check_text(path, data[:HEAD_BYTES])
    return decode_text(data, path.stem, str(path)).text
