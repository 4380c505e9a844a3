"""The torch modules that are trained compute what the converted files compute; training resumes exactly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM
from yuegguf_onnx_codec.export import export_codec, find_checkpoints

from nano import codec_weights
from nano.corpus import sample_spec
from nano.corpus.states import COUNT, HELD, LEADS, STROKE
from nano.lm_weights import LlamaSpec
from nano.train import codec, llama, losses, mistakes, stage1, stage2, upsampler
from nano.train.loop import Plan, Trainer, schedule
from nano.train.songs import pieces, song_row, tokenizer_bytes
from nano.train.vocos import Vocos
from nano.train.xcodec import KNOWN, XCodec
from yuegguf.codec.onnx import OrtCodec
from yuegguf.lm.vocab import stage1_vocab, stage2_vocab
from yuegguf.stages.stage2 import CHUNK_IDS

SMALL = LlamaSpec(hidden=32, layers=2, heads=4, kv_heads=2, ffn=48, vocab=len(pieces()), context=8192)


def test_the_llama_is_the_one_of_transformers(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = llama.Llama(SMALL)
    llama.write(tmp_path, model, tokenizer_bytes())
    oracle = LlamaForCausalLM.from_pretrained(tmp_path, torch_dtype=torch.float32)
    ids = torch.randint(0, SMALL.vocab, (2, 50))
    with torch.no_grad():
        torch.testing.assert_close(model.lm_head(model(ids)), oracle(ids).logits, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[XCodec, dict[str, Vocos], Path, Path]:
    """Untrained modules, and their checkpoints as float32 and float16 ONNX."""
    folder = tmp_path_factory.mktemp("codec")
    torch.manual_seed(3)
    model = XCodec(codec.SPEC).eval()
    for book in model.quantiser.books:
        torch.nn.init.normal_(book.embed, std=0.2)
    tracks = {track: Vocos(codec.SPEC).eval() for track in upsampler.TRACKS}
    codec_weights.save_codec(folder, codec.published(model))
    for track, made in tracks.items():
        tensors = {name: value.numpy() for name, value in made.state_dict().items()}
        codec_weights.save_upsampler(folder, track, tensors)
    export_codec(*find_checkpoints(folder), folder / "full")
    export_codec(*find_checkpoints(folder), folder / "half", half=True)
    return model, tracks, folder / "full", folder / "half"


def test_the_codec_is_the_exported_one(exported: tuple[XCodec, dict[str, Vocos], Path, Path]) -> None:
    model, tracks, full, _ = exported
    runtime = OrtCodec.open(full)
    wave = (0.1 * np.random.default_rng(0).standard_normal(320 * 40)).astype(np.float32)
    with torch.no_grad():
        found = model.quantiser(model.features(torch.from_numpy(wave)[None, None]), torch.tensor([8]))
        codes = found.codes[:, 0].numpy().astype(np.int16)
        np.testing.assert_array_equal(runtime.encode(wave)[:8], codes)
        features = model.quantiser.tables(8)[torch.arange(8)[:, None], found.codes[:, 0]].sum(0).T[None]
        torch.testing.assert_close(features, found.features, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(runtime.decode(codes), model.decode(features)[0, 0].numpy(), atol=2e-5)
        for track, upsample in tracks.items():
            made = upsample(features)[0].numpy()
            np.testing.assert_allclose(runtime.upsample(codes, track), made, atol=2e-5)


def test_half_weights_are_half_the_size_and_nearly_the_same(
    exported: tuple[XCodec, dict[str, Vocos], Path, Path],
) -> None:
    _, _, full, half = exported
    for role in ("encoder", "decoder", "vocal_upsampler"):
        sizes = [(folder / f"{role}.onnx").stat().st_size for folder in (full, half)]
        assert 0.5 < sizes[1] / sizes[0] < 0.62
    codes = np.random.default_rng(1).integers(0, 1024, (8, 30)).astype(np.int16)
    first, second = (OrtCodec.open(folder).decode(codes) for folder in (full, half))
    assert 0 < np.abs(first - second).max() < 2e-3 * np.abs(first).max()


def test_codebook_0_is_chosen_by_the_known_features_alone() -> None:
    torch.manual_seed(4)
    quantiser = XCodec(codec.SPEC).eval().quantiser
    x = torch.randn(1, codec.SPEC.width, 20)
    changed = x.clone()
    changed[:, KNOWN:] += torch.randn(1, codec.SPEC.width - KNOWN, 20)
    one = torch.tensor([1])
    assert torch.equal(quantiser(x, one).codes, quantiser(changed, one).codes)
    nearest = torch.cdist(x[0].T, quantiser.meanings.embed).argmin(1)
    assert torch.equal(quantiser(x, one).codes[0, 0], nearest)
    told = torch.randint(0, 1024, (2, 1, 20))
    told[1, 0, :10] = -1
    two = torch.tensor([2])
    found, free = quantiser(x, two, told).codes, quantiser(x, two, told[:1]).codes
    assert torch.equal(found[0], told[0])
    assert torch.equal(found[1, 0, 10:], told[1, 0, 10:])
    assert torch.equal(found[1, 0, :10], free[1, 0, :10])


def test_more_codebooks_leave_less() -> None:
    torch.manual_seed(5)
    quantiser = XCodec(codec.SPEC).eval().quantiser
    x = torch.randn(4, codec.SPEC.width, 500)
    rows = x.transpose(1, 2).reshape(-1, codec.SPEC.width)
    quantiser.fit(rows, quantiser.meanings.scores(rows).argmax(1))
    left = [(x - quantiser(x, torch.full((4,), n)).features).square().mean().item() for n in range(1, 9)]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.2 * left[0]


def test_the_spectral_loss_is_zero_for_equal_waves_alone() -> None:
    wave = 0.1 * torch.randn(2, 8000)
    assert losses.spectral_loss(wave, wave, 16_000, {256: 24}).item() == 0.0
    assert losses.spectral_loss(0.5 * wave, wave, 16_000, {256: 24}).item() > 0.3


def test_stage_1_reads_only_codes_and_writes_a_row_for_every_piece() -> None:
    torch.manual_seed(6)
    model = stage1.Stage1()
    whole = model.finish()
    vocab = stage1_vocab(pieces())
    written = [vocab.eoa, *range(vocab.codebook0, vocab.codebook0 + 1024)]
    assert model.written.tolist() == written
    ids = torch.randint(0, stage1.USED, (1, 30))
    with torch.no_grad():
        scores = model._scores(model.llama(ids)[0])
        logits = whole.lm_head(whole(ids))[0]
    torch.testing.assert_close(logits[:, written], scores[:, :-1], atol=1e-4, rtol=1e-4)
    rest = torch.ones(stage1.USED, dtype=torch.bool)
    rest[written] = False
    trimmed = logits[:, : stage1.USED][:, rest]
    torch.testing.assert_close(trimmed.logsumexp(-1), scores[:, -1], atol=1e-4, rtol=1e-4)


def test_mistakes_are_in_half_of_the_rows_and_only_in_codes() -> None:
    row = song_row(sample_spec(1_000_007), 1).ids
    ids = np.stack([row] * 200)
    read = mistakes.noisy(ids, 3)
    assert ((read < mistakes.FIRST) == (ids < mistakes.FIRST)).all()
    wrong = (read != ids).sum(1) / len(row)
    assert 80 < (wrong == 0).sum() < 120  # of 200
    assert 15 < (wrong > 0.1).sum() < 70  # they begin as a recording does
    assert wrong.max() < 0.5
    assert (mistakes.noisy(ids, 3) == read).all()
    assert (mistakes.noisy(ids, 4) != read).any()


def test_a_confused_state_keeps_its_tone_and_is_the_same_at_all_places() -> None:
    backing = np.arange(HELD, COUNT)
    given = np.concatenate([backing, backing, [STROKE, 0]])
    half, heard = len(backing), mistakes.confused(given, np.random.default_rng(2))
    assert (heard[:half] == heard[half : 2 * half]).all()
    assert (heard[2 * half :] == [STROKE, 0]).all()
    was, held = backing - HELD, heard[:half] - HELD
    chords = was < LEADS - HELD
    assert (was[chords] % 24 // 2 == held[chords] % 24 // 2).all()
    assert 0.3 < (was[chords] % 2 != held[chords] % 2).mean() < 0.5
    leads = ~chords
    assert ((was - held)[leads] % 12 == 0).all()
    genres = {int(state) // 24 for state in held[chords][was[chords] // 24 != held[chords] // 24]}
    assert len(genres) == 1


def test_a_late_span_is_what_its_track_had_nearby() -> None:
    given = np.r_[1, 2, mistakes.FIRST + np.arange(1000)]  # every code once
    read = given.copy()
    mistakes._delay(np.arange(2, 1002), given, read, np.random.default_rng(1))
    off = (read - given)[2:]
    assert 20 < (off != 0).sum() < 80
    assert (off % 2 == 0).all()
    assert 2 <= np.abs(off[off != 0]).min() <= np.abs(off).max() <= 2 * mistakes.FARTHEST


def test_pointing_is_the_attention_that_a_head_pays() -> None:
    torch.manual_seed(7)
    query, key = torch.randn(1, 6, 8), torch.randn(1, 6, 8)
    words = torch.full((1, 6), -1)
    words[0, 4] = 2
    attention = (query[0, 4] @ key[0, :5].T * 8**-0.5).softmax(-1)
    found = stage1.pointing(query, key, words)[words >= 0]
    torch.testing.assert_close(found, -attention[2].log()[None])


def test_only_what_is_known_is_trained() -> None:
    torch.manual_seed(8)
    reader, states = torch.nn.Linear(4, 5), torch.randn(3, 4)
    classes = {"chord": torch.tensor([1, stage1.UNKNOWN, 0]), "step": torch.full((3,), stage1.UNKNOWN)}
    found = stage1.read_out(reader, states, classes, {"chord": 2, "step": 3})
    scores = reader(states)[[0, 2], :2]
    wanted = 0.3 * torch.nn.functional.cross_entropy(scores, torch.tensor([1, 0]))
    torch.testing.assert_close(found, wanted)


def test_a_stage_2_row_is_what_the_runtime_feeds() -> None:
    vocab = stage2_vocab(pieces())
    codes = np.random.default_rng(2).integers(0, 1024, (1, 8, 300))
    ids = stage2.layout(codes)[0]
    assert len(ids) == CHUNK_IDS + 1
    assert ids[:2].tolist() == [vocab.soa, vocab.stage_1]
    np.testing.assert_array_equal(ids[2:302], codes[0, 0] + vocab.codebooks[0])
    assert ids[302] == vocab.stage_2
    np.testing.assert_array_equal(ids[303:].reshape(300, 8).T - vocab.codebooks[:, None], codes[0])


def test_a_batch_is_a_function_of_its_step() -> None:
    first, second = ([row.ids.tolist() for row in stage1.rows_of(9)] for _ in range(2))
    assert first == second
    longest = max(map(len, first))
    assert longest * len(first) <= stage1.BATCH_IDS or len(first) == 1


def learn(folder: Path, until: int) -> torch.Tensor:
    """Ten planned steps of a tiny model, as far as `until`; goes on with what FOLDER holds."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    trainer = Trainer(Plan(folder, "line", 10, 0.1, "cpu"), model)
    data = [torch.randn(8, 4, generator=torch.Generator().manual_seed(i)) for i in range(10)]
    while trainer.step < until:
        trainer._learn(lambda step: {"square": model(data[step]).square().mean()})
    trainer.save()
    return torch.cat([model.weight.detach()[0], model.bias.detach()])


def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = learn(tmp_path / "whole", 10)
    half = learn(tmp_path / "parts", 4)
    torch.testing.assert_close(learn(tmp_path / "parts", 10), whole, rtol=0, atol=0)
    assert not torch.equal(half, whole)


def test_the_log_holds_every_term(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 1)
    Trainer(Plan(tmp_path, "x", 50, 0.01, "cpu"), model).run(
        lambda step: {"a": model.weight.square().sum(), "b": 0 * model.bias.sum() + 2}
    )
    line = json.loads((tmp_path / "x.jsonl").read_text())
    assert (line["step"], line["b"]) == (50, 2.0)
    assert {"a", "seconds"} < {*line}


def test_the_first_means_after_a_resume_are_those_of_its_steps(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 1)
    trainer = Trainer(Plan(tmp_path, "x", 50, 0.01, "cpu"), model)
    trainer.step = 30
    trainer.save()
    Trainer(trainer.plan, model).run(lambda step: {"a": 0 * model.bias.sum() + 2})
    line = json.loads((tmp_path / "x.jsonl").read_text())
    assert (line["step"], line["a"]) == (50, 2.0)


def test_the_rate_rises_then_falls() -> None:
    rates = [schedule(step, 3000) for step in range(3001)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[int(np.argmax(rates))] > 0.99
    assert rates[-1] == pytest.approx(0.02)
