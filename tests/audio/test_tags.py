"""Tags in every format, read back by other programs."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest
import soundfile
from mutagen.flac import Picture
from mutagen.id3 import ID3

from yuegguf import __version__
from yuegguf.audio import ffmpeg, files
from yuegguf.audio.tags import Chapter, Tags, read_picture
from yuegguf.errors import RequestError, StorageError

WAVE = (0.1 * np.sin(np.arange(88_200) / 20)).astype(np.float32)
CREDIT = f"AI-generated with YuE by HKUST/M-A-P (yuegguf {__version__})"
BY_FFMPEG = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg writes this format")
FORMATS = [pytest.param(name, marks=BY_FFMPEG if name in ffmpeg.ENCODERS else ()) for name in files.FORMATS]


def png() -> bytes:
    """A picture of one black dot."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0\0"))
        + chunk(b"IEND", b"")
    )


TAGS = Tags(
    "Sör 歌 노래",
    "Ann",
    "warm folk female",
    date="2026",
    bpm="96",
    key="F#m",
    lyrics="[verse]\nla 歌\n\n[chorus]\nlo",
    timed_lines=((0.25, "la 歌"), (1.25, "lo")),
    chapters=(Chapter(0.0, 1.0, "verse"), Chapter(1.0, 2.0, "chorus")),
    picture=png(),
)


def written(folder: Path, kind: str, tags: Tags | None = TAGS) -> Path:
    path = folder / f"song.{kind}"
    files.write_audio(path, WAVE, kind, tags=tags)  # type: ignore[arg-type]
    return path


def probed(path: Path) -> dict[str, Any]:
    """Tags and chapters as ffprobe reads them."""
    program = shutil.which("ffprobe")
    if program is None:
        pytest.skip("the second opinion needs ffprobe")
    shown = ["-show_format", "-show_streams", "-show_chapters", "-of", "json"]
    told = subprocess.run([program, "-v", "error", *shown, str(path)], capture_output=True, check=True)
    data: dict[str, Any] = json.loads(told.stdout)
    tags = {**data["format"].get("tags", {}), **data["streams"][0].get("tags", {})}
    return {
        "tags": {name.lower(): text for name, text in tags.items()},
        "chapters": [
            (round(float(c["start_time"]), 1), round(float(c["end_time"]), 1), c["tags"]["title"])
            for c in data["chapters"]
        ],
        "pictures": [s["codec_name"] for s in data["streams"] if s["codec_type"] == "video"],
    }


@pytest.mark.parametrize("kind", FORMATS)
def test_ffprobe_reads_names_chapters_and_the_picture(kind: str, tmp_path: Path) -> None:
    found = probed(written(tmp_path, kind))
    named = {"title": TAGS.title, "artist": "Ann", "genre": TAGS.genre, "comment": CREDIT, "date": "2026"}
    assert {name: found["tags"][name] for name in named} == named
    chapters = [(0.0, 1.0, "verse"), (1.0, 2.0, "chorus")]
    assert found["chapters"] == (chapters if kind in ("mp3", "flac", "opus") else [])
    assert found["pictures"] == ([] if kind == "wav" else ["png"])


def test_id3_frames(tmp_path: Path) -> None:
    tags = ID3(written(tmp_path, "mp3"))
    assert tags.version == (2, 4, 0)
    texts = {name: str(tags[name]) for name in ("TIT2", "TPE1", "TCON", "TDRC", "TBPM", "TKEY")}
    assert texts == {
        **{"TIT2": TAGS.title, "TPE1": "Ann", "TCON": TAGS.genre},
        **{"TDRC": "2026", "TBPM": "96", "TKEY": "F#m"},
    }
    assert str(tags.getall("COMM")[0]) == CREDIT
    assert str(tags.getall("USLT")[0]) == TAGS.lyrics
    timed = tags.getall("SYLT")[0]
    assert (timed.format, timed.type, timed.text) == (2, 1, [("la 歌", 250), ("lo", 1250)])
    assert tags.getall("CTOC")[0].child_element_ids == ["chapter1", "chapter2"]
    assert [(c.start_time, c.end_time) for c in tags.getall("CHAP")] == [(0, 1000), (1000, 2000)]
    assert (tags.getall("APIC")[0].data, tags.getall("APIC")[0].mime) == (png(), "image/png")


@pytest.mark.parametrize("kind", ["flac", pytest.param("opus", marks=BY_FFMPEG)])
def test_vorbis_comments(kind: str, tmp_path: Path) -> None:
    file = mutagen.File(written(tmp_path, kind))
    texts = {name: file[name] for name in ("TITLE", "LYRICS", "SYNCEDLYRICS", "BPM", "INITIALKEY", "COMMENT")}
    assert texts == {
        **{"TITLE": [TAGS.title], "LYRICS": [TAGS.lyrics], "BPM": ["96"], "INITIALKEY": ["F#m"]},
        **{"SYNCEDLYRICS": ["[00:00.25]la 歌\n[00:01.25]lo"], "COMMENT": [CREDIT]},
    }
    assert [file[f"CHAPTER00{n}"][0] for n in (1, 2)] == ["00:00:00.000", "00:00:01.000"]


def test_a_flac_has_its_picture_and_samples(tmp_path: Path) -> None:
    path = written(tmp_path, "flac")
    (picture,) = mutagen.File(path).pictures
    assert isinstance(picture, Picture)
    assert (picture.data, picture.mime, picture.type) == (png(), "image/png", 3)
    (tmp_path / "bare").mkdir()
    bare = written(tmp_path / "bare", "flac", None)
    np.testing.assert_array_equal(soundfile.read(path)[0], soundfile.read(bare)[0])


@BY_FFMPEG
def test_m4a_atoms(tmp_path: Path) -> None:
    file = mutagen.File(written(tmp_path, "m4a"))
    assert (file["\xa9nam"], file["\xa9lyr"], file["tmpo"]) == ([TAGS.title], [TAGS.lyrics], [96])
    assert bytes(file["covr"][0]) == png()


@pytest.mark.parametrize("kind", files.FORMATS[:3])
def test_libsndfile_reads_them_too(kind: str, tmp_path: Path) -> None:
    with soundfile.SoundFile(written(tmp_path, kind)) as file:
        found = file.copy_metadata()
    assert (found["title"], found["artist"], found["date"]) == (TAGS.title, "Ann", "2026")
    assert found["comment"] == CREDIT
    assert found["software"].startswith(f"yuegguf {__version__}")


@pytest.mark.parametrize("kind", FORMATS)
def test_broken_text_does_not_stop_the_song(kind: str, tmp_path: Path) -> None:
    bad = "a\0b\udcff"
    tags = Tags(bad, bad, lyrics=bad, timed_lines=((0.0, bad),), chapters=(Chapter(0, 1, bad),))
    assert probed(written(tmp_path, kind, tags))["tags"]["title"] == "ab?"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"GIF89a", "neither a PNG nor a JPEG"),
        (b"", "neither a PNG nor a JPEG"),
        (b"\xff\xd8\xff" + bytes(8 << 20), "larger than 8 MiB"),
        (None, "cannot be read"),
    ],
)
def test_other_pictures_are_refused(content: bytes | None, complaint: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    with pytest.raises(RequestError, match=complaint):
        read_picture(tmp_path / "a")


# --- ffmpeg ---


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a script in the place of ffmpeg."""
    (folder / "ffmpeg").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


@pytest.mark.parametrize("kind", ["opus", "m4a"])
def test_without_ffmpeg_the_message_has_the_command(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RequestError) as raised:
        files.check_format(kind, 16)
    assert f"{kind} files are written by ffmpeg, which is not installed" in str(raised.value)
    assert "apt install ffmpeg" in str(raised.value)


def test_an_ffmpeg_without_the_encoder_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "echo ' A....D aac  AAC'")
    files.check_format("m4a", 16)
    with pytest.raises(RequestError, match="no encoder libopus"):
        files.check_format("opus", 16)


@pytest.mark.parametrize(
    "script", ["echo 'No space left on device' >&2; exit 1", "cat >/dev/null; kill -9 $$"]
)
def test_an_ffmpeg_that_fails_leaves_nothing(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "out").mkdir()
    program(tmp_path / "bin", monkeypatch, f"[ $# = 2 ] && echo ' A... aac' && exit; {script}")
    with pytest.raises(StorageError, match="could not be written by ffmpeg"):
        files.write_audio(tmp_path / "out" / "a.m4a", np.zeros(1 << 19, np.float32), "m4a")
    assert list((tmp_path / "out").iterdir()) == []
