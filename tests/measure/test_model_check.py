"""The check of a model file: its figures are the sampler's, and it separates right files from wrong ones."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fakes import PIECES, FakeEngine, MemoryJournal, Stage1Engine
from helpers import FAST, OURS, Capture, cli, refused
from tasks import PROMPT, TASK, VOCAB

from benchmarks.broken_models import WRONG, write_changed
from yuegguf.errors import DamagedFile, RequestError
from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.lm.vocab import Stage2Vocab, stage1_vocab, stage2_vocab
from yuegguf.measure import likelihood, model_check, quality
from yuegguf.measure.codec_check import compare_codes
from yuegguf.measure.likelihood import Likelihood, SampleScore, mean_likelihood
from yuegguf.measure.model_check import THRESHOLDS, check_stage1, check_stage2, is_nano
from yuegguf.measure.quality import Passage
from yuegguf.measure.samples import CodecSamples, SampledSection, stage1_samples, stage2_samples
from yuegguf.measure.scoring_engine import stage_of
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline.engines import open_codec
from yuegguf.request.sampling import Sampling
from yuegguf.stages import stage1
from yuegguf.stages.prompt import Prompt
from yuegguf.stages.sampler import filtered_choices, penalise, probabilities, step_scores

NANO = nano_models()
SAMPLING = Sampling(min_new_tokens=4)
SONG = (*OURS, *FAST)


def sampled(count: int) -> tuple[Stage1Engine, list[SampledSection]]:
    """Sections of `count` frames at most that a model sampled by the runtime, and the engine that was fed."""
    engine, journal = Stage1Engine(), MemoryJournal()
    task = replace(TASK, caps=[count] * 3, sampling=SAMPLING, speculative=False)
    codes = stage1.generate_codes(task, engine, VOCAB, journal)
    return engine, [SampledSection(part.tolist(), len(part) < 2 * count) for part in codes]


def scores_of(engine: Stage1Engine, sections: list[SampledSection]) -> list[SampleScore]:
    return list(likelihood.stage1_scores(engine, VOCAB, PROMPT, sections, SAMPLING))


def test_the_samples_of_a_model_are_all_within_what_it_would_sample() -> None:
    _, sections = sampled(90)
    scores = scores_of(Stage1Engine(), sections)
    assert len(scores) == sum(len(part.codes) + part.ended for part in sections)
    assert all(score.within for score in scores)
    found = mean_likelihood(scores)
    assert found.within == 1.0
    spread = np.std([score.expected - score.log_probability for score in scores])
    assert abs(found.deficit) < 4 * spread / len(scores) ** 0.5  # as far as chance goes
    assert 1 < found.set_size <= 50


def test_a_model_is_fed_what_the_runtime_feeds() -> None:
    ran, sections = sampled(90)
    engine = Stage1Engine()
    scores_of(engine, sections)
    for seq in (0, 1):
        fed, wanted = engine.fed[seq], ran.fed[seq]
        count = min(len(fed), len(wanted))
        assert abs(len(fed) - len(wanted)) <= 1  # the last sample of the song is fed by neither or by one
        assert fed[:count] == wanted[:count]
    assert likelihood.stage1_ids(PROMPT, sections) >= len(engine.fed[0])


def test_a_score_is_that_of_the_sampler_with_guidance_and_penalty() -> None:
    engine, sections = Stage1Engine(), [SampledSection([5, 9, 5, 7], ended=False)]
    scores = scores_of(engine, sections)
    context = PROMPT.header + PROMPT.sections[0]
    ids = [VOCAB.codebook0 + code for code in sections[0].codes]
    in_context = np.zeros(1025, bool)
    for place, code in enumerate(sections[0].codes):
        rows = np.stack([engine._logits(context + ids[:place]), engine._logits([context[-1], *ids[:place]])])
        values = penalise(step_scores(rows, 1.5, VOCAB), in_context, 1.1)
        values[0] = -np.inf  # four samples are the least
        chance = probabilities(values)
        assert scores[place].log_probability == pytest.approx(np.log(chance[1 + code]))
        choices, _ = filtered_choices(values, SAMPLING)
        assert scores[place].within == (1 + code in choices)
        assert scores[place].set_size == len(choices)
        own = chance[choices] / chance[choices].sum()
        assert scores[place].expected == pytest.approx((own * np.log(chance[choices])).sum())
        in_context[1 + code] = True


def test_other_samples_are_hardly_ever_within_what_a_model_would_sample() -> None:
    _, sections = sampled(90)
    moved = [replace(part, codes=[(code + 1) % 1024 for code in part.codes]) for part in sections]
    found = mean_likelihood(scores_of(Stage1Engine(), moved))
    assert found.within < 0.15
    assert found.deficit > 1
    assert THRESHOLDS["stage1"].verdict(found) == "wrong"


def test_stage_2_is_scored_by_its_own_choices() -> None:
    vocab = stage2_vocab(PIECES)
    codes = np.random.default_rng(2).integers(0, 1024, (2, 8, 6)).astype(np.int16)
    passages = quality.stage2_passages(codes, vocab)
    scores = list(likelihood.stage2_scores(FakeEngine(n_rows=1), passages))
    assert [book for book, _ in scores] == [book for _ in range(12) for book in range(1, 8)]
    for _, score in scores:
        assert score.expected >= score.log_probability
        assert score.within == (score.expected == score.log_probability)
        assert score.set_size == 1


def test_the_verdict_follows_from_both_figures() -> None:
    def verdict(within: float, deficit: float) -> str:
        return THRESHOLDS["stage1"].verdict(Likelihood(100, within, -2.0, deficit, 20.0))

    assert [verdict(w, d) for w, d in ((1.0, 0.0), (0.93, 0.3))] == ["right"] * 2
    assert [verdict(w, d) for w, d in ((0.9, 0.0), (1.0, 0.4))] == ["doubtful"] * 2
    assert [verdict(w, d) for w, d in ((0.79, 0.0), (1.0, 0.7))] == ["wrong"] * 2


SHORT = replace(
    stage1_samples("nano"), sections=[SampledSection(stage1_samples("nano").sections[0].codes[:240], False)]
)
CHUNKS = stage2_samples("nano").array


def first_frames(codes: np.ndarray, vocab: Stage2Vocab) -> list[Passage]:
    """The first 60 frames of one chunk, whose prompt is whole."""
    passage = quality.stage2_passages(codes, vocab)[0]
    return [Passage(passage.ids[: 303 + 60 * 8], passage.predictions[: 60 * 7])]


def test_the_bundled_family_is_right_and_a_wrong_conversion_of_it_is_wrong(tmp_path: Path) -> None:
    right = check_stage1(NANO.stage1, SHORT, threads=1)
    assert right.verdict == "right"
    assert right.likelihood.samples == 240
    assert list(right.parts) == [1]
    for name in ("rows of q and k in Hugging Face's order", "output rows shifted by one"):
        change, rope = WRONG[name]
        wrong = check_stage1(
            write_changed(NANO.stage1, tmp_path / "wrong.gguf", change, rope), SHORT, threads=1
        )
        assert wrong.verdict == "wrong", name
        assert wrong.likelihood.deficit > 10 * abs(right.likelihood.deficit)
    assert is_nano(NANO.stage1)


def test_the_bundled_stage_2_is_right_and_a_wrong_conversion_of_it_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RequestError, match="no code"):
        check_stage2(NANO.stage2, CHUNKS[:, :, :0])
    monkeypatch.setattr(model_check, "stage2_passages", first_frames)
    right = check_stage2(NANO.stage2, CHUNKS, threads=1)
    assert right.verdict == "right"
    assert list(right.parts) == list(range(1, 8))
    change, rope = WRONG["RoPE base 100 instead of 10,000"]
    wrong = check_stage2(write_changed(NANO.stage2, tmp_path / "wrong.gguf", change, rope), CHUNKS, threads=1)
    assert wrong.verdict == "wrong"


def test_the_command_reports_both_stages(
    capsys: Capture, no_models: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yuegguf.measure.samples.stage1_samples", lambda _model: SHORT)
    monkeypatch.setattr(model_check, "stage2_passages", first_frames)
    result = cli(capsys, "models", "check", "nano", "--json", "--threads", 1)
    assert result.code == 0
    first, second = result.json["files"]
    assert (first["stage"], first["verdict"], first["samples"]) == ("stage1", "right", 240)
    assert (second["stage"], second["verdict"], second["samples"]) == ("stage2", "right", 420)
    assert list(first["sections"]) == ["1"]
    assert list(second["codebooks"]) == [str(n) for n in range(1, 8)]
    assert result.json["ok"] is True


def test_seeded_weights_are_right_for_their_own_samples_and_wrong_with_another_vocabulary(
    tmp_path: Path,
) -> None:
    change, _rope = WRONG["weights shuffled within each tensor"]
    seeded = write_changed(NANO.stage1, tmp_path / "seeded.gguf", change)
    vocab = stage1_vocab(read_model(seeded).pieces)
    built = Prompt([5, 6, 7], [[8, vocab.soa, vocab.xcodec]], [9])
    task = replace(TASK, prompt=built, caps=[60], sampling=SAMPLING)
    with closing(LlamaEngine(seeded, EngineOptions(512, 2, 1, outputs=64))) as engine:
        (codes,) = stage1.generate_codes(task, engine, vocab, MemoryJournal())
    sections = [SampledSection(codes.tolist(), False)]

    def scored(path: Path) -> Likelihood:
        with closing(LlamaEngine(path, EngineOptions(512, 2, 1, outputs=64))) as engine:
            return mean_likelihood(list(likelihood.stage1_scores(engine, vocab, built, sections, SAMPLING)))

    right = scored(seeded)
    assert THRESHOLDS["stage1"].verdict(right) == "right"
    shifted, _rope = WRONG["output rows shifted by one"]
    wrong = scored(write_changed(seeded, tmp_path / "wrong.gguf", shifted))
    assert THRESHOLDS["stage1"].verdict(wrong) == "wrong"


def test_a_wrong_file_is_exit_7_and_another_model_has_no_verdict(
    capsys: Capture, tmp_path: Path, no_models: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yuegguf.measure.samples.stage1_samples", lambda _model: SHORT)
    wrong = write_changed(NANO.stage1, tmp_path / "en-cot-F16.gguf", *WRONG["output rows shifted by one"])
    result = cli(capsys, "models", "check", wrong)
    assert result.code == DamagedFile.exit_code
    assert "en-cot-F16.gguf: it is wrong" in result.out
    monkeypatch.setattr("yuegguf.measure.model_check.is_nano", lambda _path: False)
    other = wrong.rename(tmp_path / "zh-cot-F16.gguf")
    result = cli(capsys, "models", "check", other)
    assert result.code == 0
    assert "no verdict" in result.out


def test_stage_2_scores_the_beginning_of_a_song_of_the_users_own(
    capsys: Capture, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yuegguf.cli._check.SONG_FRAMES", 40)
    result = cli(capsys, "models", "check", NANO.stage2, "--song", song, "--json", "--threads", 1)
    (file,) = result.json["files"]
    assert (file["samples"], file["source"]) == (2 * 7 * 40, str(song))
    assert (result.code, file["verdict"]) == (7, "wrong")  # its codes are those of a hash


def test_what_cannot_be_checked_is_said(capsys: Capture, tmp_path: Path, no_models: None) -> None:
    assert "get it with: yuegguf pull en-cot" in cli(capsys, "models", "check", "en-cot").err
    assert "get it with: yuegguf pull xcodec" in cli(capsys, "models", "check", "xcodec").err
    assert "pass --audio" in refused(capsys, 5, "models", "check", NANO.codec)
    assert "--audio does nothing" in refused(capsys, 5, "models", "check", "nano", "--audio", tmp_path)
    assert "--song does nothing" in refused(capsys, 5, "models", "check", NANO.stage1, "--song", tmp_path)
    assert stage_of(NANO.stage2) == "stage2"


def test_codes_of_a_recording_are_compared_at_the_shift_where_most_are_equal() -> None:
    expected = np.random.default_rng(4).integers(0, 1024, 400)
    same = compare_codes(expected, expected)
    assert (same.same, same.shift, same.verdict) == (1.0, 0, "right")
    late = compare_codes(np.concatenate([[1, 2, 3], expected]), expected)
    assert (late.same, late.shift, late.verdict) == (1.0, 3, "right")
    some = expected.copy()
    some[::2] = 0
    assert compare_codes(some, expected).verdict == "doubtful"
    assert compare_codes((expected + 1) % 1024, expected).verdict == "doubtful"
    with pytest.raises(RequestError, match="instead of 8"):
        compare_codes(expected[:100], expected)


def test_the_command_compares_a_recording_with_the_codes_of_the_codec(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 24000), 16000)
    codec = open_codec(NANO.codec, 1)
    wave = soundfile.read(tmp_path / "a.wav", dtype="float32")[0]
    codes = codec.encode(wave)[0].tolist()
    for own, verdict in ((codes, "right"), ([(each + 1) % 1024 for each in codes], "doubtful")):
        samples = CodecSamples("xcodec", "test", "Apache-2.0", own)
        monkeypatch.setattr("yuegguf.measure.samples.codec_samples", lambda found=samples: found)
        result = cli(capsys, "models", "check", NANO.codec, "--audio", tmp_path / "a.wav", "--json")
        assert result.code == 0
        (file,) = result.json["files"]
        assert file["verdict"] == verdict
        assert (file["same"] == 1.0) == (verdict == "right")
        assert file["frames"] == 75


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((NANO.stage1, "--song", "x"), "--song does nothing for stage1.gguf, which is stage 1"),
        ((NANO.stage2, "--sections", 1), "--sections does nothing for"),
        ((NANO.codec, "--sections", 1), "--song and --sections do nothing for"),
        ((NANO.codec, "--song", "x"), "--song and --sections do nothing for"),
        ((NANO.stage1, "--audio", "x.wav"), "--audio does nothing for"),
    ],
)
def test_options_without_effect_are_refused(
    arguments: tuple[object, ...], sentence: str, capsys: Capture
) -> None:
    assert sentence in refused(capsys, 5, "models", "check", *arguments)
