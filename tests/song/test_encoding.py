"""Encoding within the memory: whole where it fits, else parts with context, and how far codes then differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import Capture, cli, new_song, refused

from yuegguf.audio import recording
from yuegguf.codec.header import EncoderShape, read_encoder
from yuegguf.errors import DamagedFile, ModelNotFound, NotEnoughMemory, RequestError
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline.engines import encoding_memory, open_codec
from yuegguf.pipeline.phases import _within_draft
from yuegguf.progress import Event
from yuegguf.request.song_request import GuideTrack, Reference, SongRequest
from yuegguf.song import encoding
from yuegguf.song.encoding import (
    CONTEXT_FRAMES,
    PART_FRAMES,
    AudioSource,
    EncodingMemory,
    audio_source,
    encode_source,
    part_count,
    reference_codes,
    split_window,
    sum_sources,
)
from yuegguf.song.recordings import encode_guide_track

NANO = nano_models().codec
SECOND = 1000
"""Bytes a second of the rooms below."""
PART_SECONDS = (PART_FRAMES + 2 * CONTEXT_FRAMES) / 50


class Positions:
    """A codec whose codes say which samples it was given; the wave holds its own positions."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def encode(self, wav16k: np.ndarray) -> np.ndarray:
        self.lengths.append(len(wav16k))
        frames = (len(wav16k) + 240) // 320
        assert len(wav16k) % 320 == LEFT, "what is left over decides how the codec aligns its halves"
        starts = np.minimum(np.arange(frames) * 320, len(wav16k) - 1)
        numbers = np.rint(wav16k[starts] * 1e6).astype(np.int64) // 320
        return np.stack([numbers % 1024, numbers // 1024, *np.zeros((6, frames), np.int64)]).astype(np.int16)


LEFT = 0


def source(seconds: float, left: int, monkeypatch: pytest.MonkeyPatch) -> AudioSource:
    monkeypatch.setitem(globals(), "LEFT", left)
    samples = round(seconds * 50) * 320 + left
    return AudioSource("x", samples, lambda a, b: (np.arange(a, min(b, samples)) / 1e6).astype(np.float64))


def room(seconds: float) -> EncodingMemory:
    """For so many seconds of audio."""
    return EncodingMemory(round(encoding.WORKSPACE_BYTES + SECOND * seconds), 0, SECOND)


def numbers(codes: np.ndarray) -> list[int]:
    return (codes[0].astype(int) + 1024 * codes[1]).tolist()


@pytest.mark.parametrize("left", [0, 79, 80, 311, 312])
@pytest.mark.parametrize("seconds", [61, 100, 121.5])
@pytest.mark.parametrize(
    "window", [None, slice(0, 50), slice(700, 1200), slice(2900, 10**9), slice(10, 2999)]
)
def test_every_frame_of_the_window_is_encoded_once_in_order(
    window: slice | None, seconds: float, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = source(seconds, left, monkeypatch)
    expected = list(range(given.frames))[window or slice(None)]
    for limit in (seconds + 1, PART_SECONDS + 0.1):
        codec, told = Positions(), list[Event]()
        codes = encode_source(given, codec, room(limit), window, told.append)  # type: ignore[arg-type]
        assert codes.shape == (8, len(expected))
        assert numbers(codes) == expected
        assert max(codec.lengths) <= 16_000 * limit
        assert [bool(event.warning) for event in told][:1] == ([] if limit > seconds else [True])


def shares(told: list[Event]) -> list[tuple[str, int, int]]:
    return [(event.phase, event.done, event.total) for event in told if not event.warning]


def test_parts_are_counted_as_progress(
    music: Path, monkeypatch: pytest.MonkeyPatch, small_parts: None
) -> None:
    given, told = source(26, 0, monkeypatch), list[Event]()
    encode_source(given, Positions(), room(9.1), progress=told.append)  # type: ignore[arg-type]
    assert shares(told) == [("encode", done, 6) for done in range(6)]
    codec = open_codec(NANO, 1)
    told.clear()
    whole = audio_source(recording.open_recording(music))
    count = part_count(whole, slice(None), room(9.1))
    assert count > 1
    encoding.encode_stems((music, music), codec, room(9.1), slice(None), told.append)
    codec.close()
    found = shares(told)
    assert list(dict.fromkeys(found)) == [("encode", done, 2 * count) for done in range(2 * count)]
    assert found == sorted(found)


def test_a_reference_that_is_encoded_in_parts_begins_a_song_and_no_phase_of_its_own(
    music: Path, tmp_path: Path
) -> None:
    request = SongRequest("pop", "[verse]\nla", reference=Reference(str(music), start=0, end=8))
    folder, told = new_song(tmp_path, request), list[Event]()
    noted = _within_draft(folder, told.append)
    noted(Event("encode", 0, 1, warning="it is long"))
    noted(Event("encode", 3, 6, "part 4 of 6"))
    assert [(event.phase, event.done, event.total) for event in told] == [
        ("draft", 0, folder.song.frames)
    ] * 2
    assert [(event.note, event.warning) for event in told] == [("", "it is long"), ("part 4 of 6", "")]


def test_a_window_is_encoded_with_its_context_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    given, read = source(600, 100, monkeypatch), list[tuple[int, int]]()
    noted = AudioSource("x", given.samples, lambda a, b: (read.append((a, b)), given.read(a, b))[1])
    assert numbers(encode_source(noted, Positions(), room(60), slice(5000, 6500))) == list(range(5000, 6500))  # type: ignore[arg-type]
    assert read == [(320 * (5000 - CONTEXT_FRAMES), 320 * (6500 + CONTEXT_FRAMES) + 100)]


def test_the_whole_is_encoded_where_memory_is_unknown_or_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    given = source(300, 5, monkeypatch)
    for enough in (EncodingMemory(), room(301)):
        codec = Positions()
        encode_source(given, codec, enough, slice(100, 200))  # type: ignore[arg-type]
        assert codec.lengths == [given.samples]


def test_what_does_not_fit_even_in_parts_is_refused_with_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 2**30
    given, small = source(600, 0, monkeypatch), EncodingMemory(2 * gib, gib, gib // 40)
    with pytest.raises(NotEnoughMemory) as caught:
        split_window(given, slice(0, given.frames), small)
    assert str(caught.value) == (
        "encoding x needs about 2.6 GiB for 60 s at a time, and 2.0 GiB may be used; "
        "close other programs, pass a larger --max-memory, or use another machine"
    )
    assert len(split_window(given, slice(0, given.frames), EncodingMemory(3 * gib, gib, gib // 40))) == 15


def test_a_sum_is_as_long_as_the_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = source(3, 0, monkeypatch), source(2, 0, monkeypatch)
    both = sum_sources("mix", one, two)
    assert (both.samples, both.frames) == (two.samples, 100)
    np.testing.assert_array_equal(both.read(5, 9), 2 * one.read(5, 9))


# The real encoder of nano


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14.3 s of tones and noise, with another number of samples left over than 0."""
    rate, chance = 16_000, np.random.default_rng(1)
    time = np.arange(round(14.3 * rate) + 100) / rate
    notes = 220 * 2 ** (chance.integers(0, 24, 29) / 12)
    tone = np.sin(2 * np.pi * np.cumsum(notes[(time * 2).astype(int)]) / rate)
    wave = 0.3 * tone * (1 - time % 0.5) + 0.02 * chance.normal(0, 1, len(time))
    path = tmp_path_factory.mktemp("music") / "music.wav"
    soundfile.write(path, wave, rate)
    return path


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "CONTEXT_FRAMES", 100)
    monkeypatch.setattr(encoding, "PART_FRAMES", 250)


@pytest.mark.usefixtures("small_parts")
def test_most_codes_of_parts_are_those_of_the_whole(music: Path) -> None:
    """All were here; HuBERT normalises over all that it is given, so on another processor some may differ.

    With samples left over that are not those of the whole, a third agreed.
    """
    codec = open_codec(NANO, 1)
    found = encoding.audio_source(recording.open_recording(music))
    whole = encode_source(found, codec, EncodingMemory())
    for window in (None, slice(300, 400)):
        part = encode_source(found, codec, room(9.1), window)
        same = (part == whole[:, window or slice(None)]).mean(axis=1)
        assert part.shape[1] == (100 if window else whole.shape[1])
        assert same.min() > 0.8
    codec.close()


def test_all_ways_to_a_recording_go_through_parts(
    music: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, small_parts: None
) -> None:
    """A reference, a voice, stems to import, a given track and encode: cut out of the same parts."""
    codec, tight = open_codec(NANO, 1), room(9.1)
    found = encoding.audio_source(recording.open_recording(music))
    expected = encode_source(found, codec, tight, slice(300, 400))
    reference = reference_codes(Reference(str(music), start=6, end=8), codec, tight)
    np.testing.assert_array_equal(reference, expected[0])
    pair = reference_codes(Reference(None, str(music), str(music), 6, 8), codec, tight)
    np.testing.assert_array_equal(pair, np.repeat(expected[0], 2))
    track, heard = encode_guide_track(GuideTrack("vocal", str(music), 6), codec, 100, tight)
    np.testing.assert_array_equal(track, expected)
    assert heard is not None
    assert len(heard) == 88_200
    both = encoding.encode_stems((music, music), codec, tight, slice(300, 400))
    np.testing.assert_array_equal(both, [expected, expected])
    codec.close()
    shape = read_encoder(NANO / "encoder.onnx")
    most = encoding.WORKSPACE_BYTES + shape.fixed + round(9.1 * shape.second)
    limit = ("--threads", 1, "--max-memory", f"{most}B")
    window = ("--start", 6, "--end", 8)
    told = cli(capsys, "encode", music, *window, "-o", tmp_path, *limit)
    assert "note: music.wav is too long to be encoded whole (0.2 GiB): the window is " in told.err
    np.testing.assert_array_equal(np.load(tmp_path / "music.npy"), expected)
    monkeypatch.setenv("YUEGGUF_VOICES_DIR", str(tmp_path / "voices"))
    save = ("voice", "save", "a", "--ref", music, "--ref-start", 6, "--ref-end", 8)
    assert "music.wav is too long to be encoded whole" in cli(capsys, *save, *limit).err
    with np.load(tmp_path / "voices" / "a.npz") as voice:
        np.testing.assert_array_equal(voice["codes"], expected[0])


@pytest.mark.parametrize(
    "command",
    [
        ("encode", "{music}"),
        ("voice", "save", "a", "--ref", "{music}"),
        ("import", "--vocal", "{music}", "--inst", "{music}", "-g", "pop", "--lyrics", "[verse]\nla"),
    ],
)
def test_too_little_memory_is_exit_4_before_anything_is_encoded(
    command: tuple[str, ...], music: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUEGGUF_VOICES_DIR", str(tmp_path / "voices"))
    monkeypatch.setattr("yuegguf.codec.onnx.OrtCodec.encode", None)
    small = encoding_memory(NANO).bytes_for(16_000 * 5)
    monkeypatch.setattr("yuegguf.planning.hardware.available_memory", lambda: small)
    line = [part.format(music=music) for part in command]
    out = () if command[0] == "voice" else ("-o", tmp_path / "out")
    said = refused(capsys, 4, *line, *out, "--threads", 1)
    assert said.startswith(
        "encoding music.wav needs about 0.2 GiB for 14 s at a time, and 0.2 GiB may be used"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command", [("run", "--ref", "{music}", "--lyrics", "[verse]\nla"), ("stems", "--vocal", "{music}")]
)
def test_a_song_whose_recording_cannot_be_encoded_is_refused_before_it_is_begun(
    command: tuple[str, ...], music: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = EncodingMemory(encoding.WORKSPACE_BYTES + 5 * SECOND, 0, SECOND)
    monkeypatch.setattr("yuegguf.pipeline.create.encoding_memory", lambda *args: small)
    line = [part.format(music=music) for part in command]
    said = refused(capsys, 4, *line, "-g", "pop", "-m", "nano", "-o", tmp_path / "songs")
    assert said.startswith("encoding music.wav needs about")
    assert not list(tmp_path.iterdir())


# What it takes


def test_the_estimate_is_above_what_was_measured() -> None:
    """Resident memory, per second of audio, of exported codecs of these widths on ONNX Runtime 1.32."""
    for widths, measured in (
        ((16, 16, 24), 5.5),
        ((1, 256, 192), 10.5),
        ((1, 16, 768), 3.6),
        ((64, 512, 768), 25.6),
    ):
        estimate = EncoderShape(1, *widths).second / 1e6
        assert measured < estimate < 1.8 * measured
    published = EncoderShape(131_335_040, 64, 512, 768)
    assert published.fixed / 1e6 == pytest.approx(788, abs=1)


def test_the_shape_is_read_from_the_file(tmp_path: Path) -> None:
    shape = read_encoder(NANO / "encoder.onnx")
    assert (shape.acoustic, shape.convolution, shape.hidden) == (16, 16, 24)
    assert shape.weights == 1_359_048
    with pytest.raises(ModelNotFound):
        read_encoder(tmp_path / "encoder.onnx")
    data = (NANO / "encoder.onnx").read_bytes()
    damage: list[Callable[[bytes], bytes]] = [
        lambda data: data[:1000],
        lambda data: b"\xff" * 1000,
        lambda data: data.replace(b"encoder.block.0.weight", b"encoder.block.0.heights"[:22]),
    ]
    for change in damage:
        (tmp_path / "encoder.onnx").write_bytes(change(data))
        with pytest.raises(DamagedFile, match="is damaged"):
            read_encoder(tmp_path / "encoder.onnx")


def test_a_length_that_only_the_header_claims_is_refused(tmp_path: Path, music: Path) -> None:
    found = recording.open_recording(music)
    longer = recording.Recording(music, found.rate, 2 * found.samples)
    with pytest.raises(RequestError, match="announces 457800 samples and ends at 228900"):
        longer.wave(16_000)
