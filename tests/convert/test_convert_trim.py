"""Trimming and quantising: kept rows byte for byte, other bytes untouched."""

from __future__ import annotations

import base64
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFValueType
from yuegguf_convert.gguf_file import GgufFile, Tensor, Value, number, read_gguf, text, write_gguf
from yuegguf_convert.lm import convert_lm
from yuegguf_convert.quantize import LLAMA_TYPES, quantize_gguf, quantize_rows
from yuegguf_convert.tokenizer_pieces import TOKENIZER_KEY, read_vocab
from yuegguf_convert.trim import trim_gguf, used_ids

from nano.lm_weights import LlamaSpec, write_llama
from nano.tokenizer import TEXT_PIECES, build_tokenizer
from yuegguf.errors import DamagedFile, ModelNotFound, RequestError, StorageError
from yuegguf.progress import Event

SPEC = LlamaSpec(hidden=256, layers=1, heads=4, kv_heads=2, ffn=352, vocab=9900, context=8192)
CUT = ("token_embd.weight", "output.weight")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trim") / "checkpoint"
    write_llama(path, SPEC, 3, build_tokenizer())
    return path


@pytest.fixture(scope="module")
def full(folder: Path) -> Callable[[str], Path]:
    """`full("Q4_K_M")` → an untrimmed stage-2 file of that type."""

    def make(kind: str) -> Path:
        out = folder.parent / f"{kind}.gguf"
        return out if out.exists() else convert_lm(folder, out, out_type=kind, trim=False)

    return make


def rows_of(model: GgufFile, name: str) -> np.ndarray:
    tensor = model.tensors[name]
    return model.read(tensor, 0, tensor.rows)


def rewritten(source: Path, out: Path, change: Callable[[dict[str, Value]], None], drop: str = "") -> Path:
    """The same model with other metadata, as other tools might have written it."""
    model = read_gguf(source)
    metadata = dict(model.metadata)
    change(metadata)

    def blocks(tensor: Tensor) -> Iterator[np.ndarray]:
        yield model.read(model.tensors[tensor.name], 0, tensor.rows)

    write_gguf(out, metadata, [t for t in model.tensors.values() if t.name != drop], blocks)
    return out


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_K_M", "Q6_K"])
@pytest.mark.parametrize(("role", "count"), [("stage1", 2646), ("stage2", 8195)])
def test_kept_rows_are_the_same_bytes(
    full: Callable, tmp_path: Path, kind: str, role: str, count: int
) -> None:
    before = read_gguf(full(kind))
    after = read_gguf(
        trim_gguf(full(kind), tmp_path / "t.gguf", role="stage1" if role == "stage1" else "stage2")
    )
    pieces, kept_pieces = (m.metadata["tokenizer.ggml.tokens"].texts for m in (before, after))
    assert len(kept_pieces) == count
    where = [pieces.index(piece) for piece in kept_pieces]
    assert where == sorted(where)
    assert list(after.tensors) == list(before.tensors)
    for name, tensor in after.tensors.items():
        assert tensor.kind == before.tensors[name].kind
        rows = rows_of(before, name)
        np.testing.assert_array_equal(rows_of(after, name), rows[where] if name in CUT else rows)
    for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
        np.testing.assert_array_equal(after.metadata[key].data, before.metadata[key].data[where])
    touched = {
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.scores",
        "tokenizer.ggml.token_type",
        "llama.vocab_size",
    }
    touched |= {"yuegguf.role", "yuegguf.trimmed", TOKENIZER_KEY}
    touched |= {f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "unknown")}
    assert {
        k: v for k, v in after.metadata.items() if k not in touched
    }.keys() == before.metadata.keys() - touched
    assert after.metadata["yuegguf.role"].text == role
    assert after.metadata["llama.vocab_size"].data == count
    assert ("tokenizer.ggml.bos_token_id" in after.metadata) == (role == "stage1")


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
def test_trimming_early_or_late_is_the_same(folder: Path, full: Callable, tmp_path: Path, kind: str) -> None:
    early = convert_lm(folder, tmp_path / "early.gguf", out_type=kind)
    assert trim_gguf(full(kind), tmp_path / "late.gguf").read_bytes() == early.read_bytes()


def test_a_foreign_file(full: Callable, tmp_path: Path) -> None:
    def change(metadata: dict[str, Value]) -> None:
        for key in [k for k in metadata if k.startswith("yuegguf.")]:
            del metadata[key]
        metadata["general.alignment"] = number(GGUFValueType.UINT32, 64)
        metadata["tokenizer.ggml.padding_token_id"] = number(GGUFValueType.UINT32, 1601)
        metadata["custom.note"] = text("kept")

    foreign = rewritten(full("Q8_0"), tmp_path / "foreign.gguf", change)
    after = read_gguf(trim_gguf(foreign, tmp_path / "t.gguf"))
    assert after.metadata["yuegguf.role"].text == "stage2"
    assert after.metadata["custom.note"].text == "kept"
    assert after.metadata["tokenizer.ggml.padding_token_id"].data == 0  # <SOA> comes first
    assert all(tensor.offset % 64 == 0 for tensor in after.tensors.values())
    assert TOKENIZER_KEY not in read_gguf(trim_gguf(foreign, tmp_path / "s.gguf", role="stage1")).metadata

    def short(metadata: dict[str, Value]) -> None:
        del metadata["yuegguf.role"]
        metadata["llama.context_length"] = number(GGUFValueType.UINT32, 2048)

    unknown = rewritten(full("Q8_0"), tmp_path / "unknown.gguf", short)
    with pytest.raises(RequestError, match="context of 2048"):
        trim_gguf(unknown, tmp_path / "u.gguf")


def test_tied_embeddings(tmp_path: Path) -> None:
    write_llama(tmp_path / "checkpoint", replace(SPEC, tied=True), 3, build_tokenizer())
    whole = convert_lm(tmp_path / "checkpoint", tmp_path / "m.gguf", out_type="F16", trim=False)
    assert "output.weight" not in read_gguf(whole).tensors
    assert read_gguf(trim_gguf(whole, tmp_path / "t.gguf")).tensors["token_embd.weight"].shape == (8195, 256)


def test_what_cannot_be_trimmed(full: Callable, tmp_path: Path) -> None:
    out = tmp_path / "t.gguf"
    done = trim_gguf(full("Q8_0"), tmp_path / "done.gguf")

    def no_pieces(metadata: dict[str, Value]) -> None:
        del metadata["tokenizer.ggml.tokens"]

    def short(metadata: dict[str, Value]) -> None:
        scores = metadata["tokenizer.ggml.scores"]
        metadata["tokenizer.ggml.scores"] = replace(scores, data=scores.data[:-1])

    def renamed(metadata: dict[str, Value]) -> None:
        pieces = metadata["tokenizer.ggml.tokens"]
        names = [b"x" + p if p in (b"<stage_2>", b"<xcodec/3/9>") else p for p in pieces.data]
        metadata["tokenizer.ggml.tokens"] = replace(pieces, data=names)

    cases = [
        (done, RequestError, "trimmed already"),
        (tmp_path / "none.gguf", ModelNotFound, "none.gguf"),
        (
            rewritten(full("Q8_0"), tmp_path / "a.gguf", no_pieces),
            DamagedFile,
            "no vocabulary: tokenizer.ggml.tokens is missing",
        ),
        (rewritten(full("Q8_0"), tmp_path / "b.gguf", short), DamagedFile, "different lengths"),
        (rewritten(full("Q8_0"), tmp_path / "c.gguf", renamed), DamagedFile, "lacks <stage_2>, <xcodec/3/9>"),
        (
            rewritten(full("Q8_0"), tmp_path / "d.gguf", lambda _m: None, drop="token_embd.weight"),
            DamagedFile,
            "missing: token_embd.weight",
        ),
    ]
    for source, error, words in cases:
        with pytest.raises(error, match=words):
            trim_gguf(source, out)
        assert not out.exists()


def test_damaged_ggufs(full: Callable, tmp_path: Path) -> None:
    whole = full("Q8_0").read_bytes()
    start = read_gguf(full("Q8_0")).data_start
    path, rng = tmp_path / "m.gguf", np.random.default_rng(0)
    for size in [0, 3, 4, 8, 23, 24, start - 1, start, len(whole) // 2, *rng.integers(0, start, 40)]:
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedFile, match=r"m\.gguf"):
            trim_gguf(path, tmp_path / "t.gguf")
    for at in rng.integers(0, 3000, 300):  # any header byte: refused by name, or harmless
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with suppress(DamagedFile):
            read_gguf(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.gguf"]


def test_stage1_keeps_text_and_codebook_0(folder: Path) -> None:
    vocab = read_vocab(folder / "tokenizer.model", SPEC.vocab)
    kept = used_ids(vocab.pieces, vocab.types, "stage1", "t")
    assert kept.tolist() == list(range(TEXT_PIECES + 22 + 1024))


def test_real_vocabulary(reference_checkpoint: Callable[[str], Path]) -> None:
    vocab = read_vocab(reference_checkpoint("stage1") / "tokenizer.model", 83968)
    one = used_ids(vocab.pieces, vocab.types, "stage1", "t")
    two = used_ids(vocab.pieces, vocab.types, "stage2", "t")
    assert one.tolist() == [*range(32022), *range(45334, 46358)]
    assert two.tolist() == [32001, 32013, 32017, *range(45334, 53526)]


def assert_same_model(first: Path, second: Path) -> None:
    """Equal but for the order of the metadata, which llama.cpp changes."""
    one, two = read_gguf(first), read_gguf(second)
    assert list(one.tensors) == list(two.tensors)
    assert {k: str(v) for k, v in one.metadata.items()} == {k: str(v) for k, v in two.metadata.items()}
    assert one.data_start == two.data_start
    assert first.read_bytes()[one.data_start :] == second.read_bytes()[two.data_start :]


@pytest.mark.parametrize("kind", ["Q6_K", "Q4_K_M", "Q5_0", "IQ4_XS", "Q2_K"])
@pytest.mark.parametrize("threads", [1, 3])
def test_quantised_as_read_is_what_llama_cpp_makes_of_the_whole(
    tmp_path: Path, kind: str, threads: int
) -> None:
    """Grouped heads and rows of whole and of broken blocks, so that the types differ by tensor."""
    write_llama(tmp_path / "c", LlamaSpec(512, 4, 8, 1, 1408, 9900, 16384), 3, build_tokenizer())
    exact = convert_lm(tmp_path / "c", tmp_path / "exact.gguf", out_type="BF16")
    whole = quantize_gguf(exact, tmp_path / "whole.gguf", kind, threads=1)
    direct = convert_lm(tmp_path / "c", tmp_path / "direct.gguf", out_type=kind, threads=threads)
    assert len({tensor.kind for tensor in read_gguf(whole).tensors.values()}) > 2
    assert_same_model(whole, direct)


def test_a_conversion_writes_nothing_large_but_its_result(folder: Path, tmp_path: Path) -> None:
    """The disk that a download needs beside itself is the finished file's size."""
    most = 0

    def look(event: Event) -> None:
        nonlocal most
        most = max(most, sum(path.stat().st_size for path in tmp_path.iterdir()))

    out = convert_lm(folder, tmp_path / "m.gguf", out_type="Q4_K_M", trim=False, progress=look)
    assert most <= out.stat().st_size


def test_a_tokenizer_goes_into_another_tools_file(full: Callable, tmp_path: Path) -> None:
    def without(metadata: dict[str, Value]) -> None:
        del metadata[TOKENIZER_KEY]

    bare = rewritten(full("F16"), tmp_path / "bare.gguf", without)
    model = build_tokenizer()
    out = trim_gguf(bare, tmp_path / "out.gguf", role="stage1", tokenizer=model)
    assert base64.b64decode(read_gguf(out).metadata[TOKENIZER_KEY].text) == model
    with pytest.raises(DamagedFile, match="sentencepiece"):
        trim_gguf(bare, tmp_path / "other.gguf", role="stage1", tokenizer=b"junk")


def test_a_value_that_a_block_cannot_hold(tmp_path: Path) -> None:
    values = np.full((2, 256), 1e9, np.float32)
    with pytest.raises(RequestError, match=r"tensor t holds 1e\+09, outside the range of Q4_K"):
        quantize_rows(values, GGMLQuantizationType.Q4_K, "t")


@pytest.mark.parametrize("kind", LLAMA_TYPES)
def test_every_quantised_type(folder: Path, full: Callable, tmp_path: Path, kind: str) -> None:
    out = quantize_gguf(full("BF16"), tmp_path / "q.gguf", kind.lower(), threads=1)
    direct = convert_lm(folder, tmp_path / "d.gguf", out_type=kind, trim=False, threads=1)
    assert_same_model(out, direct)
    model = read_gguf(out)
    assert (
        model.metadata["tokenizer.ggml.tokens"].data
        == read_gguf(full("BF16")).metadata["tokenizer.ggml.tokens"].data
    )
    assert model.metadata[TOKENIZER_KEY] == read_gguf(full("BF16")).metadata[TOKENIZER_KEY]
    assert model.tensors["blk.0.attn_norm.weight"].kind == GGMLQuantizationType.F32
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.gguf", "q.gguf"]


def test_q8_0_equals_llama_cpp(full: Callable, tmp_path: Path) -> None:
    ours, theirs = read_gguf(full("Q8_0")), read_gguf(quantize_gguf(full("F32"), tmp_path / "q.gguf", "Q8_0"))
    for name in ours.tensors:
        np.testing.assert_array_equal(rows_of(ours, name), rows_of(theirs, name), name)


def test_what_cannot_be_quantised(full: Callable, tmp_path: Path) -> None:
    out = tmp_path / "q.gguf"
    with pytest.raises(RequestError, match="choose one of F32, F16"):
        quantize_gguf(full("F16"), out, "Q4")
    with pytest.raises(RequestError, match="quantised already"):
        quantize_gguf(full("Q8_0"), out, "Q4_0")
    with pytest.raises(ModelNotFound):
        quantize_gguf(tmp_path / "none.gguf", out, "Q4_0")
    with pytest.raises(StorageError, match="no folder"):
        quantize_gguf(full("F16"), tmp_path / "no" / "q.gguf", "Q4_0")

    def other(metadata: dict[str, Value]) -> None:
        metadata["general.architecture"] = text("unheard")

    strange = rewritten(full("F16"), tmp_path / "strange.gguf", other)
    with pytest.raises(DamagedFile, match=r"general\.architecture is 'unheard'"):
        quantize_gguf(strange, out, "Q4_0")
    assert [path.name for path in tmp_path.iterdir()] == ["strange.gguf"]


@pytest.mark.parametrize("call", ["quantize_gguf(a, b, 'Q4_0')", "trim_gguf(a, b)"])
def test_a_disk_that_fills_up(full: Callable, tmp_path: Path, call: str) -> None:
    """A file-size limit makes the kernel refuse a write in the middle, as a full disk does."""
    script = (
        "import sys; from pathlib import Path; from yuegguf.errors import StorageError\n"
        "from yuegguf_convert.quantize import quantize_gguf; from yuegguf_convert.trim import trim_gguf\n"
        "a, b = map(Path, sys.argv[1:])\n"
        f"try: {call}\n"
        "except StorageError: sys.exit(42)\n"
    )
    limit = (1 << 20, 1 << 20)
    child = subprocess.run(
        [sys.executable, "-c", script, str(full("F16")), str(tmp_path / "out.gguf")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 42, child.stderr
    assert list(tmp_path.iterdir()) == []
