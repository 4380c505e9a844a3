"""MP3s whose own tag does not count their frames: read whole, and damaged or hostile ones in bounded time."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import Capture, cli

from yuegguf.audio import mp3_frames
from yuegguf.audio.recording import open_recording
from yuegguf.errors import RequestError

SECONDS = 6
DELAY = 529
"""Samples of the decoder's delay, which libmpg123 drops."""
LAME_DELAY = 576
"""Samples of the encoder's delay, which libmpg123 drops where a tag names it."""


def mp3(rate: int = 44_100, channels: int = 2, mode: str = "VARIABLE") -> bytes:
    """Seconds of quiet and of loud noise in turn, so that a variable bit rate varies."""
    wave = np.random.default_rng(1).uniform(-0.9, 0.9, (SECONDS * rate, channels))
    wave *= np.where(np.arange(len(wave)) // rate % 2, 1, 0.001)[:, None]
    data = io.BytesIO()
    soundfile.write(data, wave, rate, format="MP3", bitrate_mode=mode, compression_level=0.3)
    return data.getvalue()


def frames_of(data: bytes) -> list[bytes]:
    """The frames of an MP3 without other bytes."""
    frames, place = [], 0
    while size := mp3_frames._FRAME_SIZES.get(data[place : place + 3]):
        frames.append(data[place : place + size])
        place += size
    return frames


FRAMES = frames_of(mp3())
TAG, SOUND = FRAMES[0], FRAMES[1:]
WHOLE = 1152 * len(SOUND) - DELAY
"""Samples of all frames of sound."""


def waves(folder: Path, data: bytes) -> np.ndarray:
    """All samples of a file with these bytes, of which a part is compared with the whole."""
    path = folder / "a.mp3"
    path.write_bytes(data)
    recording = open_recording(path)
    wave = recording.read()
    assert len(wave) == recording.samples
    middle = len(wave) // 2
    np.testing.assert_allclose(recording.read(middle, middle + 900), wave[middle : middle + 900], atol=1e-6)
    return wave


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 24_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_variable_bit_rate_without_a_tag_is_read_whole(rate: int, channels: int, tmp_path: Path) -> None:
    frames = frames_of(mp3(rate, channels))
    per_frame = 1152 if rate >= 32_000 else 576
    tagged, bare = waves(tmp_path, b"".join(frames)), waves(tmp_path, b"".join(frames[1:]))
    assert len(bare) == per_frame * (len(frames) - 1) - DELAY
    np.testing.assert_allclose(bare[LAME_DELAY:][: len(tagged)], tagged, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("data", "samples"),
    [
        pytest.param(b"".join(SOUND) + b"TAG" + b"x" * 125, WHOLE, id="ID3v1 behind"),
        pytest.param(b"".join(SOUND) + b"APETAGEX" + b"x" * 3000, WHOLE, id="APE behind"),
        pytest.param(b"ID3\4\0\0\0\0\x10\0" + bytes(2048) + b"".join(SOUND), WHOLE, id="ID3v2 in front"),
        pytest.param(b"junk" * 99 + b"".join(SOUND), WHOLE, id="junk in front"),
        pytest.param(b"".join(SOUND)[:-9], WHOLE - 1152, id="cut off"),
        pytest.param(b"".join(SOUND[:50]) + b"\xaa" * 99 + b"".join(SOUND[50:]), None, id="junk between"),
        pytest.param(TAG.replace(b"Xing", bytes(4)) + b"".join(SOUND), WHOLE + 1152, id="no tag's name"),
        pytest.param(
            bytes(TAG[:36]) + b"VBRI" + bytes(len(TAG) - 40) + b"".join(SOUND), WHOLE, id="a VBRI tag"
        ),
        pytest.param(
            TAG.replace(b"Xing\0\0\0\x0f", b"Xing\0\0\0\x0e") + b"".join(SOUND), WHOLE, id="no count"
        ),
        pytest.param(b"".join(FRAMES) * 2, 2 * WHOLE + DELAY + 1152 - LAME_DELAY, id="two after each other"),
    ],
)
def test_frames_are_counted_among_other_bytes(data: bytes, samples: int | None, tmp_path: Path) -> None:
    wave = waves(tmp_path, data)
    if samples is None:
        assert WHOLE - 2 * 1152 <= len(wave) <= WHOLE
    else:
        assert len(wave) == samples


def test_a_constant_bit_rate_without_a_tag_is_read_as_it_is(tmp_path: Path) -> None:
    """With a tag libmpg123 would drop the decoder's delay, and every code would be another."""
    bare = b"".join(frames_of(mp3(mode="CONSTANT"))[1:])
    for data in (bare, bare + b"TAG" + bytes(125)):
        plain, _ = soundfile.read(io.BytesIO(data), dtype="float32")
        np.testing.assert_array_equal(waves(tmp_path, data), plain.mean(axis=1, dtype=np.float32))


def test_two_files_after_each_other_begin_with_the_first(tmp_path: Path) -> None:
    one, two = waves(tmp_path, b"".join(FRAMES)), waves(tmp_path, b"".join(FRAMES) * 2)
    np.testing.assert_allclose(two[: len(one)], one, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 2), (44_100, 1), (22_050, 2)])
def test_a_change_of_format_is_refused(rate: int, channels: int, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="sample rate or number of channels changes"):
        waves(tmp_path, b"".join(FRAMES) + mp3(rate, channels))


def test_a_tag_that_is_right_leaves_the_file_as_it_is() -> None:
    for data in (b"".join(FRAMES), mp3(mode="CONSTANT")):
        file = io.BytesIO(data)
        assert mp3_frames.first_frame(file, 0) == 0
        assert mp3_frames.counting_head(file, 0) is None


def test_a_file_that_was_cut_off_writes_nothing_into_the_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """libmpg123 warns on stderr of a tag whose size differs from the file's."""
    data = b"".join(FRAMES)
    waves(tmp_path, data[: len(data) // 2])
    waves(tmp_path, data + b"APETAGEX" + b"x" * 9_000)
    assert capfd.readouterr().err == ""


def test_any_beginning_of_a_file_is_a_recording_or_one_sentence(tmp_path: Path) -> None:
    small = bytes((0xFF, 0xF3, 0x14, 0xC4)) + bytes(9) + b"Info\0\0\0\x0f" + bytes(3)
    for data in (b"".join(FRAMES), b"".join(SOUND), small * 9, b"ID3\4\0\0\0\0\0\0" + small):
        for size in (1, 2, 3, 4, 5, 12, 23, 24, 25, 36, 40, 200, 417, 500, 3000):
            with suppress(RequestError):
                waves(tmp_path, data[:size])


SMALL = bytes((0xFF, 0xF3, 0x14, 0xC4)) + bytes(20)
"""The smallest frame: 8 kbit/s at 24 kHz."""
HOSTILE = {
    "small frames": SMALL * 100_000,
    "gaps": (SMALL + b"\0") * 100_000,
    "headers alone": SMALL * 3 + b"\xff\xfb\x00" * 200_000,
    "sync bytes": SMALL * 3 + b"\xff" * 2_000_000,
    "tags": b"ID3\4\0\0\0\0\0\0" * 200_000 + SMALL * 9,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_work_for_a_hostile_file_is_limited(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At most a few reads for each counted frame, and each byte of a gap once."""

    class Counting(io.BytesIO):
        read_bytes = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.read_bytes += len(data)
            return data

    monkeypatch.setattr(mp3_frames, "MAX_FRAMES", 1_000)
    file = Counting(HOSTILE[name])
    first = mp3_frames.first_frame(file, mp3_frames.after_tags(file))
    head = None if first is None else mp3_frames.counting_head(file, first)
    assert file.read_bytes <= 2 * mp3_frames.JUNK_BYTES + 1_000 * (mp3_frames.RESYNC_BYTES + 20) + 2 * len(
        HOSTILE[name]
    )
    if head is not None:
        assert struct.unpack(">I", head[0].partition(b"Info")[2][4:8])[0] <= 1_000


def test_encode_takes_all_of_a_recording(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.mp3").write_bytes(b"".join(SOUND))
    result = cli(capsys, "encode", tmp_path / "a.mp3", "-o", tmp_path / "out", "--json")
    assert result.code == 0
    assert (
        np.load(tmp_path / "out" / "a.npy").shape[1] == open_recording(tmp_path / "a.mp3").codec_frames > 290
    )
