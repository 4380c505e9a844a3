"""`run --draft`, `refine`, and what `resume` makes of a draft."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import FAST, FRAMES, OURS, Capture, Run, cli, edit_song, ended, refused, song_bytes

from yuegguf.audio import dsp
from yuegguf.audio.loudness import integrated_loudness
from yuegguf.errors import DamagedFile, RequestError
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline.engines import open_codec
from yuegguf.planning.cost import StepCost
from yuegguf.planning.timing import TimingCache, timing_facts
from yuegguf.request.preview_options import PreviewOptions
from yuegguf.song.folder import SongFolder
from yuegguf.stages import stage1
from yuegguf.stages.lookahead import COSTLY_CONFIDENCE, MIN_CONFIDENCE, NgramDrafter

SONG = (*OURS, *FAST, "--draft")
NANO = Path(__file__).resolve().parents[2] / "yuegguf" / "data" / "nano"


@pytest.fixture
def draft(song: Path, tmp_path: Path) -> Path:
    """A copy of the draft."""
    return Path(shutil.copytree(song, tmp_path / "songs" / "draft"))


def test_a_draft_is_stage_1_with_audio(song: Path) -> None:
    folder = SongFolder.open(song)
    assert (folder.state, folder.draft_complete, folder.record.draft_files) == (
        "refine",
        True,
        ("draft.wav",),
    )
    assert sorted(path.name for path in song.iterdir()) == [
        "draft.wav",
        "lyrics.lrc",
        "markers.txt",
        "song.json",
        "stage1.npz",
        "tokens.log",
    ]
    codes, codec = folder.load_stage1()[0], open_codec(NANO, 1)
    mix = codec.decode(codes[:1]) + codec.decode(codes[1:])
    wanted = dsp.resample(mix, 16000, 44100)
    found, rate = soundfile.read(song / "draft.wav")
    assert (rate, len(found)) == (44100, 882 * FRAMES)
    middle = slice(882, -882)  # between the fades
    gain = np.dot(found[middle], wanted[middle]) / np.dot(wanted[middle], wanted[middle])
    assert np.abs(found - gain * wanted)[middle].max() < 1 / 32768
    assert integrated_loudness([found.astype(np.float32)], 44100) == pytest.approx(-14, abs=0.1)


def test_run_says_how_to_go_on(capsys: Capture, tmp_path: Path) -> None:
    result = cli(capsys, "run", *OURS, *FAST, "--draft", "-o", tmp_path)
    ended(result)
    file = Path(result.out.strip())
    assert file.name == "draft.wav"
    assert f"this is the draft; go on with: yuegguf refine {file.parent}" in result.err


def test_both_tracks_come_if_they_are_requested(run: Run) -> None:
    folder = run(*OURS, "--draft-stems", "--format", "flac", "--vocal-gain", -6)
    names = ["draft.flac", "draft-vocals.flac", "draft-instrumental.flac"]
    assert list(SongFolder.open(folder).record.draft_files) == list(names)
    mix, vocals, backing = (soundfile.read(folder / name)[0] for name in names)
    assert np.abs(mix - backing - vocals).max() < 2 / 32768


def test_refine_ends_in_the_song_of_one_go(draft: Path, sung: Run, capsys: Capture) -> None:
    result = cli(capsys, "refine", draft, "-t", 1, "--json")
    ended(result)
    assert not result.json["draft"]
    assert song_bytes(draft) == song_bytes(sung(*OURS, *FAST))
    assert [Path(file).name for file in result.json["files"]] == ["mix.wav", "vocals.wav", "instrumental.wav"]
    assert (draft / "draft.wav").exists()
    again = cli(capsys, "refine", draft, "--json")
    assert (again.code, again.json) == (0, result.json)


def test_resume_leaves_a_finished_draft_alone(draft: Path, capsys: Capture) -> None:
    before = {path: path.read_bytes() for path in draft.iterdir()}
    result = cli(capsys, "resume", draft, "--json")
    ended(result)
    assert result.json["draft"]
    assert result.json["files"] == [str(draft / "draft.wav")]
    assert "go on with: yuegguf refine" in result.err
    assert {path: path.read_bytes() for path in draft.iterdir()} == before
    others = f"see: yuegguf songs list {draft.parent}"
    nothing = cli(capsys, "resume", "-o", draft.parent)
    assert (nothing.code, nothing.out) == (0, f"there is no interrupted song in {draft.parent}; {others}\n")


def test_a_lost_draft_is_made_again(draft: Path, capsys: Capture) -> None:
    before = (draft / "draft.wav").read_bytes()
    (draft / "draft.wav").unlink()
    ended(cli(capsys, "resume", draft, "-t", 1))
    assert (draft / "draft.wav").read_bytes() == before


def unfinished(draft: Path) -> None:
    """Take it back to the middle of stage 1."""
    edit_song(draft, state="draft", draft_files=[])
    log = (draft / "tokens.log").read_bytes().splitlines(keepends=True)
    (draft / "tokens.log").write_bytes(b"".join(log[:150]))
    for name in ("stage1.npz", "draft.wav", "markers.txt"):
        (draft / name).unlink()


def test_an_interrupted_draft_is_resumed_to_its_draft(draft: Path, song: Path, capsys: Capture) -> None:
    unfinished(draft)
    said = refused(capsys, 5, "refine", draft)
    assert said == f"{draft} is still in its draft; finish it with: yuegguf resume {draft}"
    result = cli(capsys, "resume", "-o", draft.parent, "-t", 1, "--json")
    ended(result)
    assert result.json["draft"]
    for name in ("tokens.log", "draft.wav", "markers.txt", "stage1.npz"):
        assert (draft / name).read_bytes() == (song / name).read_bytes()


def test_a_song_keeps_the_confidence_of_drafts_with_which_it_was_planned(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = list[float]()

    class NotedDrafter(NgramDrafter):
        def __init__(self, confidence: float) -> None:
            used.append(confidence)
            super().__init__(confidence)

    def drafted(name: str) -> SongFolder:
        ended(cli(capsys, "run", *SONG, "-o", tmp_path / name))
        return SongFolder.open(next((tmp_path / name).iterdir()))

    monkeypatch.setattr(stage1, "NgramDrafter", NotedDrafter)
    monkeypatch.setenv("YUEGGUF_CACHE_DIR", str(tmp_path / "cache"))
    plan = drafted("untimed").record.plan
    assert plan is not None
    assert plan.draft_confidence == MIN_CONFIDENCE
    facts = timing_facts(plan, plan.stage1(), nano_models().stage1_key)
    TimingCache().keep(StepCost(1.0, 1.0, 1.0, 1.0, draft=9.0), *facts)
    song = drafted("timed")
    wanted = replace(plan, draft_confidence=COSTLY_CONFIDENCE)
    assert song.record.plan == replace(wanted, memory=song.record.plan.memory)
    TimingCache().path.unlink()
    codes = (song.path / "tokens.log").read_bytes()
    unfinished(song.path)
    ended(cli(capsys, "resume", song.path, "-t", 1))
    assert SongFolder.open(song.path).record.plan == song.record.plan
    assert (song.path / "tokens.log").read_bytes() == codes
    assert [key for key, _ in groupby(used)] == [MIN_CONFIDENCE, COSTLY_CONFIDENCE]


def test_an_interrupted_refinement_is_resumed_to_the_end(draft: Path, capsys: Capture) -> None:
    folder = SongFolder.open(draft)
    folder.advance("refine", early=PreviewOptions())  # what refine notes before it begins
    assert not SongFolder.open(draft).draft_complete
    result = cli(capsys, "resume", "-o", draft.parent, "-t", 1, "--json")
    ended(result)
    assert not result.json["draft"]


def test_refine_and_preview_where_they_do_not_fit(draft: Path, tmp_path: Path, capsys: Capture) -> None:
    assert "is not a song folder" in refused(capsys, 5, "refine", tmp_path)
    assert "Missing argument 'SONG'" in refused(capsys, 2, "refine")
    result = cli(capsys, "resume", draft, "--preview")
    ended(result)
    assert "note: --preview has no effect: stage 1 is done" in result.err
    assert not (draft / "preview.wav").exists()
    assert "is not in the range" in refused(capsys, 2, "run", *OURS, "--preview-every", 0.1)


@pytest.mark.parametrize("command", ["decode", "render"])
def test_a_finished_draft_is_decoded_by_no_command_that_needs_a_song(
    command: str, draft: Path, capsys: Capture
) -> None:
    said = refused(capsys, 5, command, draft)
    assert said == f"{draft} has no stage2.npz yet; run: yuegguf refine {draft}"


@pytest.mark.parametrize(
    ("options", "early"),
    [
        ((), PreviewOptions()),
        (("--draft",), PreviewOptions("mix")),
        (("--draft-stems",), PreviewOptions("stems")),
        (("--draft", "--preview"), PreviewOptions("mix", 4.0)),
        (("--preview-every", 2), PreviewOptions("", 2.0)),
        (("--no-preview", "--preview-every", 2), PreviewOptions()),
    ],
)
def test_options_are_kept_in_the_song(
    options: tuple[object, ...],
    early: PreviewOptions,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from yuegguf.pipeline import phases

    def stop(*args: object) -> None:
        raise RequestError("stopped here")

    monkeypatch.setattr(phases, "encode_inputs", stop)
    assert cli(capsys, "run", *OURS, *FAST, *options, "-o", tmp_path).code == 5
    (folder,) = tmp_path.iterdir()
    assert SongFolder.open(folder).early == early


def test_early_is_checked() -> None:
    for change in ({"draft": "vocals"}, {"preview_seconds": 0.1}, {"preview_seconds": float("nan")}):
        with pytest.raises(RequestError):
            PreviewOptions(**change)


def test_a_spoilt_note_is_refused(draft: Path) -> None:
    for early in ("x", {"draft": 7}, {"preview_seconds": "often"}):
        edit_song(draft, early=early)
        with pytest.raises(DamagedFile):
            SongFolder.open(draft)


@pytest.mark.parametrize(("begun", "left"), [(13, 3), (12, 12)])
def test_no_more_threads_than_this_machine_can_use_are_taken_over(
    begun: int, left: int, draft: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yuegguf.planning.hardware.physical_cores", lambda: 3)
    before = SongFolder.open(draft).record.plan
    assert before is not None
    edit_song(draft, plan={**asdict(before), "threads": begun})
    result = ended(cli(capsys, "refine", draft))
    assert result.err.count("note: the song, begun with 13 threads, ") == (begun != left)
    after = SongFolder.open(draft).record.plan
    assert after is not None
    assert after.threads == left
