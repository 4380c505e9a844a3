"""The preview: the samples of the decoded whole, at every moment, and never in the song's way."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fakes import FakeCodec, MemoryJournal
from helpers import FAST, FRAMES, OURS, Run, song_bytes

import yuegguf
from yuegguf.audio import growing_wav
from yuegguf.audio.growing_wav import to_pcm
from yuegguf.audio.tags import Tags
from yuegguf.errors import CodecError, Interrupted, ModelNotFound
from yuegguf.models.resolve import resolve
from yuegguf.pipeline import preflight, preview
from yuegguf.pipeline.engines import open_codec
from yuegguf.pipeline.preview import Preview, previewed
from yuegguf.progress import Event, silent
from yuegguf.song.folder import SongFolder
from yuegguf.stages import render

NANO = Path(__file__).resolve().parents[2] / "yuegguf" / "data" / "nano"


class Quiet(FakeCodec):
    """Of a level that is not clipped; counts frames."""

    def __init__(self) -> None:
        super().__init__()
        self.value *= 0.02
        self.decoded = 0
        self.closed = False

    def decode(self, codes: np.ndarray) -> np.ndarray:
        self.decoded += codes.shape[1]
        return super().decode(codes)

    def close(self) -> None:
        self.closed = True


def codes(frames: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1024, (2, frames)).astype(np.int16)


def whole(song: np.ndarray) -> np.ndarray:
    """The mix [320·T] of decoding everything in one go."""
    waves = [Quiet().decode(row[None]) for row in song if len(row)]
    return to_pcm(np.sum(waves, axis=0) if waves else np.zeros(0, np.float32))


def heard(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="int16")[0]


def same(found: np.ndarray, wanted: np.ndarray) -> bool:
    """To a step of 16 bits."""
    return len(found) == len(wanted) and bool(np.abs(found.astype(int) - wanted).max(initial=0) <= 1)


def made(path: Path, codec: Quiet | None = None, seconds: float = 1.0) -> tuple[Preview, list[str]]:
    told: list[str] = []
    return Preview(path, lambda: codec or Quiet(), seconds, "", told.append), told


def finish(following: Preview, song: np.ndarray) -> None:
    while following.follow(song, whole=True):
        pass
    following.close()


@pytest.mark.parametrize("frames", [1, 10, 11, 12, 60, 200, 1300])
@pytest.mark.parametrize("seconds", [0.5, 1, 4])
def test_at_every_moment_it_is_the_beginning_of_the_decoded_whole(
    frames: int, seconds: float, tmp_path: Path
) -> None:
    song, path = codes(frames), tmp_path / "preview.wav"
    wanted = whole(song)
    following, told = made(path, seconds=seconds)
    lengths = []
    for count in range(1, frames + 1):
        if following.is_due(count):
            following.follow(song[:, :count])
            found = heard(path)
            assert same(found, wanted[: len(found)])
            lengths.append(len(found))
            assert count * 320 - len(found) == 320 * render.CODEC_CONTEXT
    finish(following, song)
    assert same(heard(path), wanted)
    assert lengths == sorted(lengths)
    assert len(lengths) == int(frames / (50 * seconds))
    assert told == []


@pytest.mark.parametrize("where", [render, preview])
def test_the_law_above_would_notice_too_little_context(
    where: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, "CODEC_CONTEXT", 8)
    song = codes(200)
    following, _ = made(tmp_path / "preview.wav")
    for count in range(50, 201, 50):
        following.follow(song[:, :count])
    finish(following, song)
    assert not same(heard(tmp_path / "preview.wav"), whole(song))


def test_the_bundled_codec_decodes_the_same(tmp_path: Path) -> None:
    codec, song, path = open_codec(NANO, 1), codes(230), tmp_path / "preview.wav"
    following = Preview(path, lambda: open_codec(NANO, 1), 1, "", lambda text: None)
    for count in range(50, 230, 50):
        following.follow(song[:, :count])
    finish(following, song)
    wanted = to_pcm(codec.decode(song[:1]) + codec.decode(song[1:]))
    found = heard(path)
    assert len(found) == 320 * 230
    assert np.abs(found.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("kept", [0, 5, 60, 100, 149])
@pytest.mark.parametrize("drawn", [150, 90, 300])
def test_a_section_that_is_sampled_again_is_decoded_again(kept: int, drawn: int, tmp_path: Path) -> None:
    path, before = tmp_path / "preview.wav", codes(150)
    after = np.concatenate([before[:, :kept], codes(drawn, 2)], axis=1)
    following, _ = made(path)
    following.follow(before)
    assert following.is_due(100)  # fewer than before: something was taken back
    following.follow(after[:, :kept])
    assert same(heard(path), whole(after[:, :kept])[: len(heard(path))])
    following.follow(after)
    found = heard(path)
    assert same(found, whole(after)[: len(found)])
    finish(following, after)
    assert same(heard(path), whole(after))


def test_a_resume_goes_on_where_it_ended_and_works_in_windows(tmp_path: Path) -> None:
    song, path = codes(1500), tmp_path / "preview.wav"
    first, _ = made(path)
    while first.follow(song[:, :1200]):
        pass
    first.close()
    codec = Quiet()
    again, _ = made(path, codec)
    assert again.follow(song[:, :1210]) is False
    assert codec.decoded < 2 * 150  # the end of what was there, and 10 new frames
    finish(again, song)
    assert same(heard(path), whole(song))
    assert codec.closed
    slow = Quiet()
    anew, _ = made(tmp_path / "other.wav", slow)
    assert anew.follow(song) is True  # one window at a time: the song is not held up for long
    assert slow.longest == render.WINDOW_FRAMES + render.CODEC_CONTEXT


@pytest.mark.parametrize("frames", [1100, 1200, 1300])
def test_a_resume_notices_a_preview_of_other_codes(frames: int, tmp_path: Path) -> None:
    path, song = tmp_path / "preview.wav", codes(frames, 7)
    song[:, :900] = codes(1200)[:, :900]
    first, _ = made(path)
    finish(first, codes(1200))
    again, told = made(path)
    finish(again, song)
    assert same(heard(path), whole(song))
    assert told == []


def test_an_interrupted_end_is_finished(tmp_path: Path) -> None:
    path, song = tmp_path / "preview.wav", codes(200)
    first, _ = made(path)
    finish(first, song)  # killed before stage 1's result was kept
    before = path.read_bytes()
    again, _ = made(path)
    finish(again, song)
    assert path.read_bytes() == before


def broken(error: Exception) -> Callable[[], Quiet]:
    def raising() -> Quiet:
        raise error

    return raising


@pytest.mark.parametrize(
    "error", [CodecError("the decoder failed: x"), ModelNotFound("x is not there"), MemoryError()]
)
def test_what_fails_is_reported_once_and_the_song_goes_on(error: Exception, tmp_path: Path) -> None:
    told: list[str] = []
    following = Preview(tmp_path / "preview.wav", broken(error), 1, "", told.append)
    assert following.follow(codes(100)) is False
    assert not following.is_due(1000)
    assert following.follow(codes(1000), whole=True) is False
    following.close()
    why = getattr(error, "message", "MemoryError")
    assert told == [f"the preview ends here, the song goes on: {why}"]


def test_a_full_disk_ends_the_preview_and_keeps_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, song = tmp_path / "preview.wav", codes(300)
    following, told = made(path)
    following.follow(song[:, :100])

    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(growing_wav.os, "write", full)
    finish(following, song)
    assert told == [f"the preview ends here, the song goes on: the disk is full: {path} could not be written"]
    assert same(heard(path), whole(song)[: 89 * 320])


def sing(journal: MemoryJournal, sections: Sequence[np.ndarray], report: Callable[[Event], None]) -> None:
    for number, section in enumerate(sections):
        for code in section.T.ravel():
            journal.append(number, int(code))
            report(Event("draft", 1, 2))
        journal.append(number, -1)


def test_it_follows_a_journal_by_the_events_of_stage_1(tmp_path: Path) -> None:
    journal, sections = MemoryJournal(), [codes(70), codes(0), codes(90, 2)]
    codec, path, events = Quiet(), tmp_path / "preview.wav", []
    following, _ = made(path, codec)
    with previewed(following, journal.codes, 3, events.append) as report:
        sing(journal, sections, report)
    assert same(heard(path), whole(np.concatenate(sections, axis=1)))
    assert len(events) == 320
    assert codec.closed


def test_stopping_passes_through_and_without_a_preview_nothing_is_between(tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        raise Interrupted("stopped")

    codec = Quiet()
    following, _ = made(tmp_path / "preview.wav", codec)
    following.follow(codes(100))
    between = previewed(following, MemoryJournal().codes, 1, stop)
    report = between.__enter__()
    with pytest.raises(Interrupted) as stopped:
        report(Event("draft", 1, 2))
    assert between.__exit__(Interrupted, stopped.value, None) is False
    assert codec.closed
    with previewed(None, MemoryJournal().codes, 1, silent) as report:
        assert report is silent


def test_a_song_is_the_same_with_a_preview_and_without(run: Run, sung: Run) -> None:
    plain = song_bytes(sung(*OURS, *FAST))
    folder = run(*OURS, "--preview-every", 0.5)
    assert song_bytes(folder) == plain
    stage1 = SongFolder.open(folder).load_stage1()[0]
    codec = open_codec(NANO, 1)
    wanted = to_pcm(codec.decode(stage1[:1]) + codec.decode(stage1[1:]))
    assert len(wanted) == 320 * FRAMES
    assert same(heard(folder / "preview.wav"), wanted)
    with soundfile.SoundFile(folder / "preview.wav") as file:
        assert file.comment == Tags().comment


def test_a_stopped_song_goes_on_with_its_preview(tmp_path: Path, no_models: None) -> None:
    stop, path = threading.Event(), tmp_path / "preview.wav"
    request = yuegguf.SongRequest(OURS[1], OURS[3], segment_seconds=1.0, seed=5)
    options = {"compute": yuegguf.ComputeOptions(threads=1)}

    def count(event: Event) -> None:
        if event.done >= 100:
            stop.set()

    early = yuegguf.PreviewOptions(preview_seconds=0.5)
    with pytest.raises(Interrupted) as caught:
        yuegguf.generate(
            request,
            output_dir=tmp_path,
            preview=early,
            progress=count,
            stop=stop,
            **options,  # type: ignore[arg-type]
        )
    assert caught.value.folder
    path = caught.value.folder / "preview.wav"
    assert 320 * 60 < len(heard(path)) < 320 * 100
    yuegguf.resume(caught.value.folder, **options)  # type: ignore[arg-type]
    assert len(heard(path)) == 320 * FRAMES
    stage1 = SongFolder.open(caught.value.folder).load_stage1()[0]
    codec = open_codec(NANO, 1)
    assert same(heard(path), to_pcm(codec.decode(stage1[:1]) + codec.decode(stage1[1:])))


def test_the_plan_counts_what_the_preview_holds(no_models: None) -> None:
    models = resolve(yuegguf.ModelChoice(), False)
    plain, more = (preflight.read_models(models, preview).facts.stage1.bytes for preview in (False, True))
    assert more - plain == (NANO / "decoder.onnx").stat().st_size
