"""Finetuning data: timed lyrics, rows as `finetune/README.md` has them, codes of all tracks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import cli

from yuegguf.errors import Interrupted, RequestError
from yuegguf.exchange import finetuning_data
from yuegguf.progress import Event
from yuegguf.request.lyrics import Section

LRC = """[ar: nobody]
[00:00.00][intro]
[00:01.20][Verse 1]
[00:01.30] Golden river under the moon
[00:02.00] Carry my morning

[00:02.50] [chorus]
[00:02.60] la la
"""
RATE = 16000


def make_song(parent: Path, name: str = "first", seconds: float = 4.0, inst_seconds: float = 4.0) -> Path:
    folder = parent / name
    folder.mkdir(parents=True)
    for track, length, pitch in (("vocals", seconds, 220), ("instrumental", inst_seconds, 110)):
        wave = 0.2 * np.sin(2 * np.pi * pitch * np.arange(round(RATE * length)) / RATE)
        soundfile.write(folder / f"{track}.wav", wave, RATE)
    (folder / "lyrics.lrc").write_text(LRC, "utf-8")
    (folder / "tags.txt").write_text("pop  female\nhappy\n", "utf-8")
    return folder


def test_timed_labels_open_sections() -> None:
    found = finetuning_data.timed_sections(LRC)
    assert [(part.start, part.section.label) for part in found] == [
        (0.0, "intro"), (1.2, "verse"), (2.5, "chorus"),
    ]  # fmt: skip
    assert found[1].section.body == "Golden river under the moon\nCarry my morning"
    assert finetuning_data.timed_sections("[01:02.5][verse]\n")[0] == finetuning_data.TimedSection(
        62.5, Section("verse", "")
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[00:01.00] la la\n", "line 1 comes before the first label"),
        ("[00:01.00][verse]\nla la\n", "line 2 has no time"),
        pytest.param("[" + "9" * 5000 + ":00.00][verse]\n", "line 1 has no time", id="long"),
        ("[00:02.00][verse]\n[00:01.00] la\n", "line 2 is earlier than the line before it"),
        ("[00:02.00][verse]\n[00:03.00][x2]\n", "a line in brackets is not a section label"),
        ("", "the lyrics are empty"),
    ],
)
def test_lyrics_that_cannot_be_placed_are_refused(text: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        finetuning_data.timed_sections(text)


def test_a_row_has_the_published_fields(tmp_path: Path) -> None:
    song = finetuning_data.read_song(make_song(tmp_path))
    names = {track: f"codes/{track}.npy" for track in finetuning_data.DATASET_TRACKS}
    row = finetuning_data.jsonl_row(song, 200, names)
    assert list(row) == [
        "id", "codec", "vocals_codec", "instrumental_codec", "audio_length_in_sec", "msa", "genres",
        "splitted_lyrics",
    ]  # fmt: skip
    assert (row["id"], row["codec"], row["vocals_codec"]) == ("first", "codes/mix.npy", "codes/vocals.npy")
    assert (row["audio_length_in_sec"], row["genres"]) == (4.0, "pop female happy")
    assert [(part["start"], part["end"]) for part in row["msa"]] == [(0.0, 1.2), (1.2, 2.5), (2.5, 4.0)]
    parts = row["splitted_lyrics"]["segmented_lyrics"]
    assert [(part["codec_frame_start"], part["codec_frame_end"]) for part in parts] == [
        (0, 60), (60, 125), (125, 200),
    ]  # fmt: skip
    assert parts[2] == {
        "offset": 2.5, "duration": 1.5, "codec_frame_start": 125, "codec_frame_end": 200,
        "line_content": "[chorus]\nla la\n\n",
    }  # fmt: skip
    with pytest.raises(RequestError, match=r"a section begins at 2\.5 s of 2 s"):
        finetuning_data.jsonl_row(song, 100, names)


def test_a_folder_of_songs_becomes_jsonl_and_codes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    make_song(tmp_path / "songs")
    make_song(tmp_path / "songs", "second")
    out = tmp_path / "data" / "train.jsonl"
    result = cli(capsys, "encode", tmp_path / "songs", "--jsonl", out, "--json")
    assert result.code == 0, result.err
    assert result.json == {"file": str(out), "songs": 2, "seconds": 8.0}
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows] == ["first", "second"]
    for row in rows:
        tracks = [np.load(out.parent / row[key]) for key in finetuning_data.CODEC_KEYS.values()]
        assert {(codes.shape, codes.dtype.name) for codes in tracks} == {((1, 200), "int64")}
    vocals = tmp_path / "vocals.npy"
    assert cli(capsys, "encode", tmp_path / "songs/first/vocals.wav", "-o", tmp_path).code == 0
    np.testing.assert_array_equal(np.load(out.parent / rows[0]["vocals_codec"])[0], np.load(vocals)[0])


def test_the_songs_folder_may_hold_the_output_and_hidden_folders(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    make_song(tmp_path)
    (tmp_path / ".git").mkdir()
    out = tmp_path / "train.jsonl"
    assert cli(capsys, "encode", tmp_path, "--jsonl", out).code == 0
    first = out.read_bytes()
    out.unlink()  # as after an interruption
    for force in ([], ["--force"]):
        result = cli(capsys, "encode", tmp_path, "--jsonl", out, *force)
        assert result.code == 0, result.err
        assert out.read_bytes() == first


def test_a_song_may_be_called_like_the_folder_of_codes(tmp_path: Path) -> None:
    make_song(tmp_path, "codes")
    (song,) = finetuning_data.read_songs(tmp_path, tmp_path / "train.jsonl")
    assert song.name == "codes"


class Counting:
    """A codec whose codes are how often it was asked."""

    calls = 0

    def encode(self, wave: np.ndarray) -> np.ndarray:
        self.calls += 1
        return np.full((8, (len(wave) + 240) // 320), self.calls, np.int16)


def written(folder: Path, codec: Counting, out: Path, force: bool = False, codec_id: str = "") -> list:
    encoder = finetuning_data.DatasetEncoder(codec, codec_id)  # type: ignore[arg-type]
    return finetuning_data.write_dataset([finetuning_data.read_song(folder)], encoder, out, force)


def codes_in(folder: Path) -> dict[str, int]:
    return {path.name: int(np.load(path)[0, 0]) for path in sorted(folder.glob("*.npy"))}


def test_what_is_encoded_is_not_encoded_again(tmp_path: Path) -> None:
    folder, codec, out = make_song(tmp_path / "songs"), Counting(), tmp_path / "train.jsonl"
    first = written(folder, codec, out)
    assert codec.calls == 3
    for force in (False, True):
        assert written(folder, codec, out, force) == first
    assert codec.calls == 3
    (tmp_path / "codes" / "first.vocals.npy").unlink()  # as after a kill: what is missing is made
    written(folder, codec, out)
    assert codes_in(tmp_path / "codes")["first.vocals.npy"] > 3


def test_codes_of_a_replaced_recording_are_made_again_on_request_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    songs, out = tmp_path / "songs", tmp_path / "train.jsonl"
    folder, kept = make_song(songs), tmp_path / "codes"
    assert cli(capsys, "encode", songs, "--jsonl", out).code == 0
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    wave, rate = soundfile.read(folder / "vocals.wav")
    stat = (folder / "vocals.wav").stat()
    soundfile.write(folder / "vocals.wav", wave[::-1], rate)  # of the same size and, below, the same time
    os.utime(folder / "vocals.wav", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    out.unlink()
    result = cli(capsys, "encode", songs, "--jsonl", out)
    assert result.code == 5
    assert "was made from other recordings, or with another codec; pass --force" in result.err
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert not out.exists()
    assert cli(capsys, "encode", songs, "--jsonl", out, "--force").code == 0
    assert cli(capsys, "encode", folder / "vocals.wav", "-o", tmp_path).code == 0
    made = np.load(kept / "first.vocals.npy")[0]
    np.testing.assert_array_equal(made, np.load(tmp_path / "vocals.npy")[0, : len(made)])


def test_codes_of_another_codec_or_of_unknown_origin_are_not_taken(tmp_path: Path) -> None:
    folder, codec, out = make_song(tmp_path / "songs"), Counting(), tmp_path / "train.jsonl"
    written(folder, codec, out, codec_id="one")
    note = tmp_path / "codes" / "first.origin.json"
    for spoil in (lambda: None, note.unlink, lambda: note.write_text("[" * 9_000)):
        before = codec.calls
        spoil()
        with pytest.raises(RequestError, match="with another codec; pass --force"):
            written(folder, codec, out, False, "two")
        written(folder, codec, out, True, "two")
        assert codec.calls == before + 3


def test_a_run_that_was_stopped_between_two_tracks_goes_on(tmp_path: Path) -> None:
    class Stopping(Counting):
        def encode(self, wave: np.ndarray) -> np.ndarray:
            if self.calls == 2:
                raise Interrupted("stopped")
            return super().encode(wave)

    folder, out = make_song(tmp_path / "songs"), tmp_path / "train.jsonl"
    with pytest.raises(Interrupted):
        written(folder, Stopping(), out)
    codec = Counting()
    written(folder, codec, out)
    assert codec.calls == 1


def test_what_a_song_lacks_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    songs, out = tmp_path / "songs", tmp_path / "train.jsonl"

    def refused() -> str:
        result = cli(capsys, "encode", songs, "--jsonl", out)
        assert result.code == 5
        assert not out.exists()
        return result.err

    assert "is not a folder" in refused()
    songs.mkdir()
    assert "holds no song" in refused()
    folder = make_song(songs, inst_seconds=3.0)
    assert "first: the tracks have different lengths" in refused()
    (folder / "tags.txt").write_text(" \n")
    assert "tags.txt is empty" in refused()
    (folder / "lyrics.lrc").unlink()
    assert "lyrics.lrc cannot be read as text" in refused()
    (folder / "vocals.wav").rename(folder / "vocal.wav")
    assert "has no vocals" in refused()
    assert "--jsonl takes one folder" in cli(capsys, "encode", songs, songs, "--jsonl", out).err


def test_short_sections_are_noticed(tmp_path: Path) -> None:
    folder = make_song(tmp_path)
    (folder / "lyrics.lrc").write_text("[00:00.0][verse]\n[00:03.5][outro]\n", "utf-8")

    class Silent:
        def encode(self, wave: np.ndarray) -> np.ndarray:
            return np.zeros((8, (len(wave) + 240) // 320), np.int16)

    told: list[Event] = []
    encoder = finetuning_data.DatasetEncoder(Silent())  # type: ignore[arg-type]
    finetuning_data.write_dataset(
        [finetuning_data.read_song(folder)], encoder, tmp_path / "t.jsonl", progress=told.append
    )
    assert told[0] == Event("encode", 0, 1, "first")
    assert [event.warning for event in told[1:]] == [
        "first: [outro] is shorter than a second; finetuning will skip it"
    ]


def test_lyrics_of_any_encoding_are_read_and_too_long_ones_refused(tmp_path: Path) -> None:
    folder = make_song(tmp_path)
    text = (folder / "lyrics.lrc").read_text("utf-8")
    plain = finetuning_data.read_song(folder)
    (folder / "lyrics.lrc").write_text(text, encoding="utf-16")
    assert finetuning_data.read_song(folder) == plain
    (folder / "lyrics.lrc").write_text(text + "[00:59.00] la\n" * 40_000)
    with pytest.raises(RequestError, match=r"lyrics\.lrc is too large"):
        finetuning_data.read_song(folder)
