"""Tags of audio files that players show: names, lyrics with times, chapters, a cover picture.

mp3 files get ID3v2.4 frames, flac and opus files Vorbis comments, m4a files iTunes atoms, all by mutagen; wav
files the INFO texts that libsndfile writes.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, fields
from pathlib import Path

from mutagen import MutagenError, id3
from mutagen.flac import FLAC, Picture
from mutagen.mp4 import MP4, MP4Cover
from mutagen.oggopus import OggOpus

from yuegguf import __version__
from yuegguf.errors import RequestError
from yuegguf.files.reading import open_plain_file

CREDIT = "AI-generated with YuE by HKUST/M-A-P"
"""Provenance that YuE's licence requires, in every file and song folder."""
LANGUAGE = "XXX"
"""ID3's language code of texts in an unknown one."""
MILLISECONDS, LYRICS = 2, 1
"""SYLT frame: its times are in ms; its texts are lyrics."""
NO_OFFSET = 0xFFFFFFFF
"""CHAP frame: a chapter that is given by its times alone."""
FRONT_COVER = 3
PICTURE_KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
"""First bytes of a cover picture → its media type."""
MAX_PICTURE_BYTES = 8 << 20
VORBIS_NAMES = {"bpm": "BPM", "key": "INITIALKEY", "date": "DATE", "timed_lyrics": "SYNCEDLYRICS"}
"""Vorbis comments that are not called as our fields are."""
ID3_FRAMES = {
    "title": id3.TIT2,
    "artist": id3.TPE1,
    "genre": id3.TCON,
    "software": id3.TSSE,
    "date": id3.TDRC,
}
ID3_FRAMES |= {"bpm": id3.TBPM, "key": id3.TKEY}
MP4_ATOMS = {"title": "\xa9nam", "artist": "\xa9ART", "genre": "\xa9gen", "comment": "\xa9cmt"}
MP4_ATOMS |= {"software": "\xa9too", "date": "\xa9day", "lyrics": "\xa9lyr"}


@dataclass(frozen=True)
class Chapter:
    """A section of a song, in seconds."""

    start: float
    end: float
    label: str


@dataclass(frozen=True)
class Tags:
    """Tags of an audio file; empty fields are not written."""

    title: str = ""
    artist: str = ""
    genre: str = ""
    comment: str = f"{CREDIT} (yuegguf {__version__})"
    software: str = f"yuegguf {__version__}"
    """libsndfile appends its own name and version to it in wav files."""
    date: str = ""
    """Year, or ISO date."""
    bpm: str = ""
    """Tempo, a whole number of beats a minute."""
    key: str = ""
    """Key as ID3 writes it: A to G, # or b, m for minor."""
    lyrics: str = ""
    timed_lines: tuple[tuple[float, str], ...] = ()
    """Lines of the lyrics, and when each begins, in seconds."""
    chapters: tuple[Chapter, ...] = ()
    picture: bytes = b""
    """Cover: a PNG or JPEG file."""

    def texts(self) -> dict[str, str]:
        """Text fields that are not empty, without zero bytes and lone surrogates, which no tag can hold."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        cleaned = {name: clean(value) for name, value in named.items() if isinstance(value, str)}
        return {name: text for name, text in cleaned.items() if text}


def clean(text: str) -> str:
    """A text without zero bytes and lone surrogates."""
    return text.replace("\0", "").encode(errors="replace").decode()


def read_picture(path: Path) -> bytes:
    """A cover picture. Raises RequestError for what is no PNG or JPEG file."""
    try:
        with open_plain_file(path) as file:
            data = file.read(MAX_PICTURE_BYTES + 1)
    except OSError as error:
        raise RequestError(
            f"the picture {path} cannot be read ({error.strerror})", "check the name"
        ) from error
    if _media_type(data) is None:
        raise RequestError(f"{path} is neither a PNG nor a JPEG picture", "convert it to one of them")
    if len(data) > MAX_PICTURE_BYTES:
        raise RequestError(
            f"the picture {path} is larger than {MAX_PICTURE_BYTES >> 20} MiB", "make it smaller"
        )
    return data


def write_tags(path: Path, kind: str, tags: Tags) -> None:
    """Write tags into a finished mp3, flac, opus or m4a file. OSErrors pass through."""
    write = {"mp3": _write_id3, "flac": _write_flac, "opus": _write_opus, "m4a": _write_mp4}[kind]
    try:
        write(path, tags)
    except MutagenError as error:
        if error.args and isinstance(error.args[0], OSError):
            raise error.args[0] from error
        raise


def _write_id3(path: Path, tags: Tags) -> None:
    texts, frames = tags.texts(), id3.ID3()
    for name, frame in ID3_FRAMES.items():
        if name in texts:
            frames.add(frame(encoding=id3.Encoding.UTF8, text=[texts[name]]))
    if "comment" in texts:
        frames.add(id3.COMM(encoding=id3.Encoding.UTF8, lang="eng", desc="", text=[texts["comment"]]))
    if "lyrics" in texts:
        frames.add(id3.USLT(encoding=id3.Encoding.UTF8, lang=LANGUAGE, desc="", text=texts["lyrics"]))
    if tags.timed_lines:
        lines = [(clean(text), round(1000 * seconds)) for seconds, text in tags.timed_lines]
        coding = {"encoding": id3.Encoding.UTF8, "lang": LANGUAGE, "format": MILLISECONDS, "type": LYRICS}
        frames.add(id3.SYLT(**coding, desc="", text=lines))
    for frame in _id3_chapters(tags.chapters):
        frames.add(frame)
    if tags.picture:
        kind = {"mime": _media_type(tags.picture), "type": FRONT_COVER, "desc": ""}
        frames.add(id3.APIC(encoding=id3.Encoding.UTF8, data=tags.picture, **kind))
    if frames:
        frames.save(path, v2_version=4, padding=lambda info: 0)


def _id3_chapters(chapters: tuple[Chapter, ...]) -> list[id3.Frame]:
    """CHAP frames, and the table of contents that lists them (id3.org, "ID3v2 Chapter Frame Addendum")."""
    names = [f"chapter{number}" for number in range(1, len(chapters) + 1)]
    frames = [
        id3.CHAP(
            element_id=name,
            start_time=round(1000 * chapter.start),
            end_time=round(1000 * chapter.end),
            start_offset=NO_OFFSET,
            end_offset=NO_OFFSET,
            sub_frames=[id3.TIT2(encoding=id3.Encoding.UTF8, text=[clean(chapter.label)])],
        )
        for name, chapter in zip(names, chapters, strict=True)
    ]
    flags = id3.CTOCFlags.TOP_LEVEL | id3.CTOCFlags.ORDERED
    table = id3.CTOC(element_id="sections", flags=flags, child_element_ids=names, sub_frames=[])
    return [*frames, table] if frames else []


def _write_flac(path: Path, tags: Tags) -> None:
    file = FLAC(path)
    file.update(_vorbis_comments(tags))
    if tags.picture:
        file.add_picture(_flac_picture(tags.picture))
    file.save()


def _write_opus(path: Path, tags: Tags) -> None:
    file = OggOpus(path)
    file.update(_vorbis_comments(tags))
    if tags.picture:
        encoded = base64.b64encode(_flac_picture(tags.picture).write()).decode("ascii")
        file["METADATA_BLOCK_PICTURE"] = encoded
    file.save()


def _vorbis_comments(tags: Tags) -> dict[str, str]:
    """Comments by their names; chapters are those of the Vorbis chapter extension."""
    comments = {VORBIS_NAMES.get(name, name.upper()): text for name, text in tags.texts().items()}
    if tags.timed_lines:
        lines = (f"[{_clock(seconds)[3:-1]}]{clean(text)}" for seconds, text in tags.timed_lines)
        comments["SYNCEDLYRICS"] = "\n".join(lines)
    for number, chapter in enumerate(tags.chapters, 1):
        comments[f"CHAPTER{number:03d}"] = _clock(chapter.start)
        comments[f"CHAPTER{number:03d}NAME"] = clean(chapter.label)
    return comments


def _clock(seconds: float) -> str:
    """Hours, minutes, seconds and milliseconds."""
    ms = round(1000 * seconds)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


def _flac_picture(data: bytes) -> Picture:
    picture = Picture()
    picture.data, picture.type, picture.mime = data, FRONT_COVER, str(_media_type(data))
    return picture


def _write_mp4(path: Path, tags: Tags) -> None:
    file, texts = MP4(path), tags.texts()
    for name, atom in MP4_ATOMS.items():
        if name in texts:
            file[atom] = [texts[name]]
    if "bpm" in texts:
        file["tmpo"] = [int(texts["bpm"])]
    if "key" in texts:
        file["----:com.apple.iTunes:initialkey"] = [texts["key"].encode()]
    if tags.picture:
        is_png = _media_type(tags.picture) == "image/png"
        file["covr"] = [MP4Cover(tags.picture, MP4Cover.FORMAT_PNG if is_png else MP4Cover.FORMAT_JPEG)]
    file.save()


def _media_type(data: bytes) -> str | None:
    return next((kind for magic, kind in PICTURE_KINDS.items() if data.startswith(magic)), None)
