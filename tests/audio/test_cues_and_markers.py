"""Section marks: the very bytes of cue chunks, and what players read."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from yuegguf.audio.cues import CuePoint, add_cues, cue_chunks
from yuegguf.audio.files import write_audio
from yuegguf.audio.tags import Tags
from yuegguf.request.song_request import FinishedSection
from yuegguf.song.markers import audacity_labels, cue_points, lrc_text

SECTIONS = [
    FinishedSection("verse", 0.0, 1.5, True),
    FinishedSection("chorus", 1.5, 0.98, False),
    FinishedSection("outro", 2.48, 61.0, True),
]
MARKS = [CuePoint(0, "verse"), CuePoint(75 * 882, "chorus"), CuePoint(124 * 882, "outro")]


def chunks(data: bytes) -> dict[bytes, bytes]:
    """A RIFF file's chunks by name; a LIST by its kind."""
    assert data[:4] == b"RIFF"
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    found, place = {}, 12
    while place < len(data):
        name, size = data[place : place + 4], struct.unpack("<I", data[place + 4 : place + 8])[0]
        content = data[place + 8 : place + 8 + size]
        found[content[:4] if name == b"LIST" else name] = content
        place += 8 + size + size % 2
    return found


def test_marks_are_the_first_samples_of_sections() -> None:
    assert cue_points(SECTIONS) == MARKS


def test_the_chunks_byte_for_byte() -> None:
    expected = b"cue " + struct.pack("<II", 4 + 24, 1)
    expected += struct.pack("<II4sIII", 1, 882, b"data", 0, 0, 882)
    expected += b"LIST" + struct.pack("<I", 4 + 8 + 8) + b"adtl"
    expected += b"labl" + struct.pack("<II", 7, 1) + b"ab\0" + b"\0"
    assert cue_chunks([CuePoint(882, "ab")]) == expected


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("samples", [1000, 1001])
def test_a_file_with_marks_has_the_same_audio_and_tags(bits: int, samples: int, tmp_path: Path) -> None:
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, samples).astype(np.float32)
    plain, marked = tmp_path / "plain.wav", tmp_path / "marked.wav"
    write_audio(plain, wave, "wav", bits=bits, tags=Tags(title="T"))
    write_audio(marked, wave, "wav", bits=bits, tags=Tags(title="T"), cues=MARKS)
    assert (soundfile.read(plain)[0] == soundfile.read(marked)[0]).all()
    with soundfile.SoundFile(marked) as file:
        assert file.title == "T"
    before, after = chunks(plain.read_bytes()), chunks(marked.read_bytes())
    assert {name: after[name] for name in before} == before
    count = struct.unpack("<I", after[b"cue "][:4])[0]
    points = [struct.unpack("<II4sIII", after[b"cue "][4 + 24 * i :][:24]) for i in range(count)]
    assert [(number, place) for number, place, *_ in points] == [
        (n, mark.sample) for n, mark in enumerate(MARKS, 1)
    ]
    assert all(name == b"data" and offset == place for _, place, name, _, _, offset in points)
    assert [label in after[b"adtl"] for label in (b"verse\0", b"chorus\0", b"outro\0")] == [True] * 3


def test_no_marks_no_chunks(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, np.zeros(10, np.float32))
    before = path.read_bytes()
    add_cues(path, [])
    assert path.read_bytes() == before


def test_other_formats_carry_none(tmp_path: Path) -> None:
    wave = np.zeros(1000, np.float32)
    write_audio(tmp_path / "a.flac", wave, "flac")
    write_audio(tmp_path / "b.flac", wave, "flac", cues=MARKS)
    assert (tmp_path / "a.flac").read_bytes() == (tmp_path / "b.flac").read_bytes()


def test_audacity_labels() -> None:
    assert audacity_labels(SECTIONS).splitlines()[1] == "1.500000\t2.480000\tchorus"


def test_lrc_spreads_lines_over_their_section_by_syllables() -> None:
    text = lrc_text(SECTIONS, ["la la\n\nlo\n", "", "Ü"], " my\nsong ")
    assert text.splitlines() == [
        "[ti:my song]",
        "[by:yuegguf]",
        "[length:01:03.48]",
        "[00:00.00][verse]",
        "[00:00.00] la la",
        "[00:01.00]",
        "[00:01.00] lo",
        "[00:01.50][chorus]",
        "[00:02.48][outro]",
        "[00:02.48] Ü",
    ]
