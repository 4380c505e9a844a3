"""How a song is computed: context that always suffices, rows that fit, refusals with numbers."""

from __future__ import annotations

import random
from dataclasses import asdict, replace

import numpy as np
import pytest
from helpers import context_ids
from plans import plan_of, revised

from yuegguf.errors import DamagedFile, NotEnoughMemory, RequestError
from yuegguf.files import typed_json
from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.header import ModelFacts, model_facts
from yuegguf.lm.protocol import MAX_BATCH
from yuegguf.lm.tokenizer import open_tokenizer
from yuegguf.lm.vocab import stage1_vocab
from yuegguf.models.resolve import nano_models
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.planning.cost import WORKSPACE
from yuegguf.planning.plan import Plan, context_for
from yuegguf.request.prepared import prepare
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import Reference, SongRequest
from yuegguf.stages import prompt
from yuegguf.stages.stage1_task import Stage1Task
from yuegguf.stages.stage2 import CHUNK_IDS

GIB = 2**30
BIG1 = ModelFacts(6 * GIB, 2 * 32 * 4 * 128, 32, 16384)  # YuE's 7B: 64 KiB an id at f16
BIG2 = ModelFacts(2 * GIB, 2 * 16 * 32 * 128, 16, 8192)
CELLS2 = -(-CHUNK_IDS // 256) * 256  # as llama.cpp rounds it up
ROW2 = CELLS2 * BIG2.kv_width * 2
FIXED1 = 4 * 32 * 16384 * MAX_BATCH + WORKSPACE  # llama.cpp's attention scores: 32 heads, 4 bytes each
FIXED2 = 4 * 16 * CELLS2 * MAX_BATCH + WORKSPACE
MODEL = read_model(nano_models().stage1)
PIECES, METADATA = MODEL.pieces, MODEL.metadata
VOCAB = stage1_vocab(PIECES)
ENCODE = open_tokenizer(METADATA, PIECES, nano_models().stage1).encode
WORDS = (
    "la",
    "the road was long",
    "月亮代表我的心",
    "빛나는 밤",
    "夢を見た",
    "🎵",
    "[x2]",
    "7 & 8",
    "Ünïcödé",
    "\t",
    "<EOA>",
)


def request(seconds: float = 30, sections: int = 6, **options: object) -> SongRequest:
    return SongRequest("pop", "[verse]\nla la\n" * sections, segment_seconds=seconds, **options)


def random_request(chance: random.Random) -> SongRequest:
    parts = []
    for _ in range(chance.randint(1, 12)):
        lines = [" ".join(chance.choices(WORDS, k=chance.randint(0, 6))) for _ in range(chance.randint(0, 5))]
        length = chance.choice(["", f"#length {chance.randint(1, 40)}\n"])
        parts.append(f"{length}[{chance.choice(['verse', 'chorus', 'outro'])}]\n" + "\n".join(lines) + "\n")
    tags = " ".join(chance.choices(WORDS, k=4)) + " pop"
    window = chance.choice([None, Reference(mix="a", start=0.0, end=chance.uniform(0.1, 30))])
    return SongRequest(tags, "".join(parts), segment_seconds=chance.uniform(1, 40), reference=window)


def true_ids(asked: SongRequest) -> int:
    """All ids of a song whose sections run to their full length."""
    reference = None
    if asked.reference:
        frames = round(50 * asked.reference.end) - round(50 * asked.reference.start)
        reference = np.zeros(2 * frames, np.int16)
    song = prepare(asked)
    built = prompt.build(ENCODE, VOCAB, asked.genre, song.all_sections, song.sections, reference=reference)
    return context_ids(Stage1Task(built, song.caps, asked.sampling, 0))


def test_context_holds_every_song_whatever_its_text() -> None:
    chance = random.Random(5)
    for _ in range(300):
        asked = random_request(chance)
        found = context_for(prepare(asked), 10**9)
        assert found % 256 == 0
        assert true_ids(asked) <= found <= 8 * true_ids(asked) + 4096


def test_context_is_no_more_than_allowed() -> None:
    assert context_for(prepare(request()), 10**9) == 18688
    assert context_for(prepare(request()), 16384) == 16384
    assert context_for(prepare(request(1, 1)), 16384) == 512


@pytest.mark.parametrize(
    ("machine", "trained", "context"),
    [
        (ComputeOptions(), 16384, 16384),
        (ComputeOptions(), 4096, 4096),
        (ComputeOptions(ctx=2048), 16384, 2048),
        (ComputeOptions(ctx=32768), 16384, 18688),  # asked for in so many words
    ],
)
def test_context_follows_the_user_then_the_model(machine: ComputeOptions, trained: int, context: int) -> None:
    assert plan_of(request(), replace(BIG1, n_ctx_train=trained), BIG2, machine, 4, None).n_ctx == context


@pytest.mark.parametrize(("beyond", "missing"), [(1, 0), (0, 0), (-1, 1)])
def test_a_limit_of_the_context_holds_to_the_last_id(beyond: int, missing: int) -> None:
    song, machine = request(20, 6), ComputeOptions()
    whole = plan_of(song, BIG1, BIG2, machine, 4, None).n_ctx
    assert whole == context_for(prepare(song), 10**9) < BIG1.n_ctx_train
    limited = plan_of(song, BIG1, BIG2, ComputeOptions(ctx=whole + beyond), 4, None)
    assert limited.n_ctx == whole - missing


@pytest.mark.parametrize(
    ("free", "rows"),
    [
        (None, 4),
        (9 * GIB, 8),
        (8.6 * GIB, 8),
        (8.5 * GIB, 4),  # the next number that the kernels take at once
        (12 * GIB, 12),  # fourteen would fit
        (64 * GIB, 16),
    ],
)
def test_as_many_stage2_rows_as_memory_holds(free: float | None, rows: int) -> None:
    made = plan_of(request(), BIG1, BIG2, ComputeOptions(ctx=2048), 4, None if free is None else int(free))
    assert made.stage2_rows == rows
    if free is not None:
        assert BIG2.bytes + rows * ROW2 + FIXED2 <= free * 0.9


def test_rows_are_no_more_than_the_song_has_chunks_and_at_least_one() -> None:
    small = replace(BIG1, bytes=GIB)
    assert plan_of(request(1, 1), small, BIG2, ComputeOptions(), 4, 64 * GIB).stage2_rows == 2
    assert plan_of(request(6, 1), small, BIG2, ComputeOptions(), 4, 64 * GIB).stage2_rows == 2
    assert plan_of(request(7, 1), small, BIG2, ComputeOptions(), 4, 64 * GIB).stage2_rows == 4
    tight = BIG2.bytes + ROW2 + FIXED2
    assert plan_of(request(1, 1), small, BIG2, ComputeOptions(), 4, tight).stage2_rows == 1
    assert plan_of(request(1, 1), small, BIG2, ComputeOptions(stage2_rows=7), 4, None).stage2_rows == 2
    assert plan_of(request(), small, BIG2, ComputeOptions(stage2_rows=7), 4, None).stage2_rows == 7


def test_without_guidance_there_is_one_stage1_row() -> None:
    assert plan_of(request(), BIG1, BIG2, ComputeOptions(), 4, None).stage1_rows == 2
    plain = request(sampling=Sampling(guidance_first=1, guidance_rest=1))
    assert plan_of(plain, BIG1, BIG2, ComputeOptions(), 4, None).stage1_rows == 1


def test_memory_is_the_larger_of_the_two_stages() -> None:
    made = plan_of(request(), BIG1, BIG2, ComputeOptions(stage2_rows=1), 4, None)
    assert made.memory == BIG1.bytes + 2 * 16384 * BIG1.kv_width * 2 + FIXED1
    wide = plan_of(request(), BIG1, BIG2, ComputeOptions(ctx=512, stage2_rows=10, kv_type="f32"), 4, None)
    assert wide.memory == BIG2.bytes + 10 * 2 * ROW2 + FIXED2


def test_too_little_memory_is_refused_with_both_numbers() -> None:
    tiny = replace(BIG1, bytes=0, kv_width=1, heads=1)
    told = {
        "stage 1 needs about 8.4 GiB and 4.0 GiB may be used; "
        "a model file of at most 3.3 GiB with --kv-type q4_0 would fit": (
            (request(), BIG1, BIG2, ComputeOptions(), 4, 4 * GIB),
        ),
        "stage 1 needs about 8.4 GiB and 4.0 GiB may be used; "
        "a model file of at most 3.6 GiB with --ctx 2048 would fit": (
            (request(), BIG1, BIG2, ComputeOptions(flash_attention=False), 4, 4 * GIB),
        ),
        "stage 1 needs about 8.4 GiB and --max-memory allows 8.0 GiB; --kv-type q8_0 would fit": (
            (request(), BIG1, BIG2, ComputeOptions(max_memory=8 * GIB), 4, 64 * GIB),
        ),
        "stage 1 needs about 8.4 GiB and 7.0 GiB may be used; --kv-type q4_0 would fit": (
            (request(), BIG1, BIG2, ComputeOptions(), 4, 7 * GIB),
        ),
        "stage 1 needs about 8.4 GiB and 6.5 GiB may be used; --ctx 5376 --kv-type q8_0 would fit": (
            (request(), BIG1, BIG2, ComputeOptions(), 4, int(6.5 * GIB)),
        ),
        "stage 1 needs about 6.7 GiB and 6.5 GiB may be used; --ctx 10240 would fit": (
            (request(), BIG1, BIG2, ComputeOptions(kv_type="q4_0"), 4, int(6.5 * GIB)),
        ),
        "stage 1 needs about 8.4 GiB and --max-memory allows 8.0 GiB; --ctx 13312 would fit": (
            (request(), BIG1, BIG2, ComputeOptions(max_memory=8 * GIB, flash_attention=False), 4, 64 * GIB),
        ),
        "stage 2 needs about 2.9 GiB and 2.8 GiB may be used; --kv-type q8_0 would fit": (
            (request(), tiny, BIG2, ComputeOptions(), 4, int(2.8 * GIB)),
        ),
        "stage 2 needs about 2.9 GiB and 2.2 GiB may be used; "
        "a model file of at most 1.9 GiB with --kv-type q4_0 would fit": (
            (request(), tiny, BIG2, ComputeOptions(), 4, int(2.2 * GIB)),
        ),
        "stage 2 needs about 4.9 GiB and 4.0 GiB may be used; --stage2-batch 2 would fit": (
            (request(), tiny, BIG2, ComputeOptions(stage2_rows=4), 4, 4 * GIB),
        ),
        "stage 2 needs about 2.9 GiB and 0.2 GiB may be used; a machine with more memory would fit": (
            (request(), tiny, BIG2, ComputeOptions(), 4, GIB // 4),
        ),
    }
    for words, arguments in ((words, one) for words, all_of in told.items() for one in all_of):
        with pytest.raises(NotEnoughMemory) as caught:
            plan_of(*arguments)
        assert str(caught.value) == words


def test_what_is_planned_to_fit_fits() -> None:
    assert (
        plan_of(request(), BIG1, BIG2, ComputeOptions(max_memory=8 * GIB, ctx=13312), 4, None).n_ctx == 13312
    )
    with pytest.raises(NotEnoughMemory):
        plan_of(request(), BIG1, BIG2, ComputeOptions(max_memory=8 * GIB, ctx=13568), 4, None)
    exact = BIG1.bytes + 2 * 16384 * BIG1.kv_width * 2 + FIXED1
    assert plan_of(request(), BIG1, BIG2, ComputeOptions(max_memory=exact), 4, 1).n_ctx == 16384
    with pytest.raises(NotEnoughMemory):
        plan_of(request(), BIG1, BIG2, ComputeOptions(max_memory=exact - 1), 4, None)


def test_threads_are_the_cores_by_default() -> None:
    assert plan_of(request(), BIG1, BIG2, ComputeOptions(), 6, None).threads == 6
    assert plan_of(request(), BIG1, BIG2, ComputeOptions(threads=3), 6, None).threads == 3


def test_a_song_that_goes_on_may_change_rows_threads_and_device() -> None:
    made = plan_of(request(), BIG1, BIG2, ComputeOptions(), 4, None)
    on_gpu = ComputeOptions(threads=2, stage2_rows=3, gpu_layers=-1, main_gpu=1)
    changed = revised(made, request(), BIG1, BIG2, on_gpu, None, "draft")
    assert (changed.threads, changed.stage2_rows, changed.main_gpu) == (2, 3, 1)
    assert (changed.stage1_gpu_layers, changed.stage2_gpu_layers) == (-1, -1)
    sparing = replace(made, draft_confidence=0.85)
    assert revised(sparing, request(), BIG1, BIG2, ComputeOptions(), None, "draft") == sparing
    back = revised(changed, request(), BIG1, BIG2, ComputeOptions(gpu=False), None, "draft")
    assert (back.stage1_gpu_layers, back.stage2_gpu_layers, back.main_gpu) == (0, 0, None)
    assert revised(made, request(), BIG1, BIG2, ComputeOptions(), None, "draft") == made
    assert (
        revised(made, request(), BIG1, BIG2, ComputeOptions(ctx=16384, kv_type="f16"), None, "draft") == made
    )


def test_a_song_that_goes_on_keeps_its_confidence_of_drafts() -> None:
    named = ComputeOptions(draft_confidence=0.5)
    made = plan_of(request(), BIG1, BIG2, named, 4, None)
    assert made.draft_confidence == 0.5
    for same in (named, ComputeOptions()):
        assert revised(made, request(), BIG1, BIG2, same, None, "draft") == made
    with pytest.raises(RequestError, match=r"this song was planned with a confidence of drafts of 0\.5"):
        revised(made, request(), BIG1, BIG2, ComputeOptions(draft_confidence=0.3), None, "draft")


def test_a_song_that_goes_on_keeps_its_context_and_cache_type() -> None:
    made = plan_of(request(), BIG1, BIG2, ComputeOptions(), 4, None)
    for machine, words in (
        (ComputeOptions(ctx=8192), "16384 ids of context"),
        (ComputeOptions(kv_type="f32"), "f16 caches"),
    ):
        with pytest.raises(RequestError, match=f"was planned with {words}"):
            revised(made, request(), BIG1, BIG2, machine, None, "refine")


def test_memory_is_checked_again_for_the_phases_that_are_left() -> None:
    made = plan_of(request(), BIG1, BIG2, ComputeOptions(stage2_rows=1), 4, None)
    for phase, enough in (("draft", 9 * GIB), ("refine", 4 * GIB), ("master", 1)):
        assert revised(made, request(), BIG1, BIG2, ComputeOptions(), enough, phase) == made
    for phase, little, hint in (
        ("draft", 8 * GIB, "a model file of at most 5.6 GiB would fit"),  # no other context or caches
        ("refine", 2 * GIB, "a model file of at most 1.1 GiB would fit"),
    ):
        with pytest.raises(NotEnoughMemory) as caught:
            revised(made, request(), BIG1, BIG2, ComputeOptions(), little, phase)
        assert caught.value.hint == hint


@pytest.mark.parametrize(
    "options",
    [
        {"kv_type": "q3"},
        {"kv_type": "q8_0", "flash_attention": False},
        {"ubatch": 0},
        {"threads": 0},
        {"stage2_rows": -1},
        {"ctx": 1},
        {"snapshot_seconds": -1},
    ],
)
def test_impossible_machine_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        ComputeOptions(**options)  # type: ignore[arg-type]


def test_a_plan_survives_json_and_a_damaged_one_is_refused() -> None:
    made = plan_of(request(), BIG1, BIG2, ComputeOptions(), 4, None)
    facts = asdict(made)
    assert typed_json.as_typed(facts, Plan, "plan", "") == made
    before = {name: value for name, value in facts.items() if name != "draft_confidence"}
    assert typed_json.as_typed(before, Plan, "plan", "").draft_confidence == 0.3
    wrong = (
        {"more": 1},
        {"n_ctx": "many"},
        {"n_ctx": 0},
        {"threads": 10**9},
        {"kv_type": "f8"},
        {"memory": -1},
        {"draft_confidence": 1.1},
    )
    for data in ({}, None, 7, *({**facts, **change} for change in wrong)):
        with pytest.raises(DamagedFile, match="plan is damaged"):
            typed_json.as_typed(data, Plan, "plan", "")


def test_facts_of_the_bundled_models() -> None:
    layers, heads, width = (
        int(METADATA[f"llama.{key}"]) for key in ("block_count", "attention.head_count", "embedding_length")
    )
    shared = int(METADATA["llama.attention.head_count_kv"])
    wanted = ModelFacts(5, 2 * layers * shared * (width // heads), heads, 16384, layers)
    assert model_facts(MODEL.shape, 5) == wanted
    wider = replace(MODEL.shape, head_dim=3 * MODEL.shape.head_dim)
    assert model_facts(wider, 5) == replace(wanted, kv_width=3 * wanted.kv_width)
