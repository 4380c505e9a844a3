"""A finished song as one zip: audio, section markers and song.json."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yuegguf.audio.recording import open_recording, read_audio
from yuegguf.audio.tempo_and_key import SURE, MusicEstimate, estimate_music
from yuegguf.errors import RequestError, quoted
from yuegguf.exchange.tempo_map import beat_labels, tempo_map
from yuegguf.files import typed_json
from yuegguf.files.atomic import refuse_to_replace, replacing
from yuegguf.files.reading import open_plain_file
from yuegguf.files.steady import check_inside_steady, steady
from yuegguf.song.folder import SongFolder
from yuegguf.song.record import SONG_AUDIO, TEXT_FILES
from yuegguf.song.state import finished, finished_sections, where

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of every entry, the earliest in a zip: the same song gives the same bytes."""
DEFLATED = {".wav", ".npy", ".json"}
"""Extensions that deflate makes smaller; flac and mp3 are compressed already."""
BEST_FIRST = (".wav", ".flac", ".opus", ".mp3", ".m4a")
"""Endings of mixes in the order in which one is chosen to be measured."""
MOST_MISSING_SECONDS = 0.1
"""Length by which a coder may shorten a file."""
PATH_KEYS = ("file", "mix", "vocal", "instrumental", "cover")
"""Keys with paths of this machine."""


@dataclass(frozen=True)
class Bundle:
    """A zip of a song."""

    file: Path
    names: tuple[str, ...]
    """Names of the files in it, without the folder that holds them there."""
    estimate: MusicEstimate | None = None
    """Tempo, beats and key of the mix; None for silence, a few seconds, and no sound at all."""


def write_bundle(folder: Path, out: Path | None = None, *, force: bool = False) -> Bundle:
    """Write `out`, a zip of the finished song in `folder`; None = beside the folder, of its name.

    Raises RequestError when the song is not finished, or `out` exists without `force`; StorageError.
    """
    named = folder.resolve() if folder.name == ".." else folder.absolute()
    target = out or named.parent / f"{named.name}.zip"
    refuse_to_replace([target], force)
    if not folder.is_dir():
        SongFolder.open(folder)  # says that it is no song
    with steady(folder):
        return _bundle(folder, target)


def write_zip(out: Path, folder: Path) -> Path:
    """Put all files below a folder into the zip `out`; the same files give the same bytes.

    Raises StorageError.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with replacing(out) as beside, zipfile.ZipFile(beside, "w") as archive:
        for path in files:
            _add_file(archive, path.relative_to(folder).as_posix(), path)
    return out


def _bundle(folder: Path, out: Path) -> Bundle:
    song = SongFolder.open(folder)
    if song.draft_complete or where(song) != "done":
        command = "refine" if song.draft_complete else "resume"
        raise RequestError(f"{folder} is not finished", f"run first: yuegguf {command} {quoted(folder)}")
    _check_audio(song)
    names = [*song.record.files, *TEXT_FILES]
    there = [name for name in names if (folder / name).is_file()]
    estimate = _estimate(song)
    facts = typed_json.encode_with_checksum(without_paths(typed_json.to_builtins(song.record)))
    texts = {"song.json": facts, **_beat_files(estimate, song)}
    with replacing(out) as beside, zipfile.ZipFile(beside, "w") as archive:
        for name in there:
            _add_file(archive, f"{folder.resolve().name}/{name}", folder / name)
        for name, content in texts.items():
            archive.writestr(_zip_info(f"{folder.resolve().name}/{name}", zipfile.ZIP_DEFLATED), content)
    return Bundle(out, (*there, *texts), estimate)


def _check_audio(song: SongFolder) -> None:
    """Refuse audio files that do not open, or are shorter than the song. Raises RequestError."""
    seconds = finished(song).seconds - MOST_MISSING_SECONDS
    for path in (song.path / name for name in song.record.files):
        try:
            damaged = open_recording(path).seconds < seconds
        except RequestError:
            damaged = path.suffix != ".m4a" or bool(shutil.which("ffmpeg"))  # which alone reads it
        if damaged:
            raise RequestError(
                f"{path} is damaged or cut short", f"write it again with: yuegguf render {quoted(song.path)}"
            )


def _estimate(song: SongFolder) -> MusicEstimate | None:
    """Estimates of the song's mix; None where it cannot be read."""
    mixes = [song.path / name for name in song.record.files if Path(name).stem == SONG_AUDIO[0]]
    try:
        wave, rate = read_audio(min(mixes, key=lambda path: BEST_FIRST.index(path.suffix)))
    except RequestError:  # it goes into the zip as it is
        return None
    return estimate_music(wave, rate)


def _beat_files(estimate: MusicEstimate | None, song: SongFolder) -> dict[str, bytes]:
    """The tempo map and the beats, where the tempo is sure."""
    if estimate is None or estimate.tempo_confidence < SURE:
        return {}
    return {
        "tempo.mid": tempo_map(estimate, finished_sections(song)),
        "beats.txt": beat_labels(estimate).encode(),
    }


def _add_file(archive: zipfile.ZipFile, name: str, file: Path) -> None:
    """Put a file into the archive, a block at a time. OSErrors pass through."""
    with open_plain_file(file) as source:
        check_inside_steady(file)  # it was when the folder was opened, which may be long ago
        info = _zip_info(name, zipfile.ZIP_DEFLATED if file.suffix in DEFLATED else zipfile.ZIP_STORED)
        info.file_size = os.fstat(source.fileno()).st_size
        with archive.open(info, "w") as packed:
            shutil.copyfileobj(source, packed)


def _zip_info(name: str, method: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, EPOCH)
    info.external_attr, info.compress_type = 0o644 << 16, method
    return info


def without_paths(facts: Any) -> Any:
    """JSON with file names in place of this machine's paths, which are private."""
    if isinstance(facts, Mapping):
        return {
            key: Path(value).name if key in PATH_KEYS and isinstance(value, str) else without_paths(value)
            for key, value in facts.items()
        }
    return [without_paths(value) for value in facts] if isinstance(facts, list | tuple) else facts
