"""Checkpoint → GGUF: exact bytes, metadata, and no file after a failure."""

from __future__ import annotations

import base64
import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, dequantize, quantize
from yuegguf_convert.checkpoint import open_checkpoint
from yuegguf_convert.dtypes import widen
from yuegguf_convert.gguf_file import read_gguf
from yuegguf_convert.llama_tensors import expected_tensors, read_config
from yuegguf_convert.lm import convert_lm
from yuegguf_convert.quantize import LLAMA_TYPES, check_type
from yuegguf_convert.tokenizer_pieces import TOKENIZER_KEY

from nano.lm_weights import LlamaSpec, write_llama
from nano.tokenizer import TEXT_PIECES, build_tokenizer
from yuegguf.errors import DamagedFile, Interrupted, ModelNotFound, RequestError, StorageError
from yuegguf.progress import Event

SPEC = LlamaSpec(hidden=64, layers=2, heads=8, kv_heads=2, ffn=96, vocab=9900, context=16384)
TOKENIZER = build_tokenizer()
Checkpoint = Callable[[str], Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_llama(tmp_path / "checkpoint", SPEC, 5, TOKENIZER)
    return tmp_path / "checkpoint"


def source_values(folder: Path) -> dict[str, np.ndarray]:
    """GGUF name → float32 values in Hugging Face's row order."""
    stored = open_checkpoint(folder)
    return {
        want.name: widen(
            stored[name].rows(0, want.shape[0] if len(want.shape) > 1 else 1), stored[name].dtype
        )
        for name, want in expected_tensors(read_config(folder)).items()
    }


def unrotate(values: np.ndarray, head_dim: int) -> np.ndarray:
    """Neighbouring pairs of rows → the two halves of each head (the inverse of the converter's)."""
    heads = values.reshape(-1, head_dim, values.shape[-1])
    return np.concatenate([heads[:, 0::2], heads[:, 1::2]], axis=1).reshape(values.shape)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name != "checkpoint"]


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage2_83734"])
def test_golden_tensors_are_exact(reference_checkpoint: Checkpoint, stage: str, tmp_path: Path) -> None:
    source = reference_checkpoint(stage)
    out = convert_lm(source, tmp_path / "m.gguf", out_type="BF16", trim=False)
    model, expected = read_gguf(out), source_values(source)
    assert list(model.tensors) == list(expected)
    for tensor in model.tensors.values():
        values = dequantize(model.read(tensor, 0, tensor.rows), tensor.kind)
        if "attn_q" in tensor.name or "attn_k" in tensor.name:
            values = unrotate(values, 8)
        np.testing.assert_array_equal(values, expected[tensor.name], tensor.name)
    rows = 83734 if stage == "stage2_83734" else 83968
    pieces = model.metadata["tokenizer.ggml.tokens"].texts
    assert len(pieces) == rows
    assert pieces[32002] == "<EOA>"
    assert pieces[45334 + 1024 * 7 + 5] == "<xcodec/7/5>"
    assert pieces[83734:83736] == ([] if rows == 83734 else ["[PAD83734]", "[PAD83735]"])
    types = model.metadata["tokenizer.ggml.token_type"].data
    assert [int((types == kind).sum()) for kind in (2, 3, 6, 1, 5)] == [1, 2, 256, 83475, rows - 83734]


def test_golden_single_and_sharded_are_one_file(reference_checkpoint: Checkpoint, tmp_path: Path) -> None:
    a, b = (
        convert_lm(reference_checkpoint(name), tmp_path / f"{name}.gguf", out_type="Q8_0")
        for name in ("stage1", "stage1_sharded")
    )
    assert a.read_bytes() == b.read_bytes()
    assert len(read_gguf(a).metadata["tokenizer.ggml.tokens"].data) == 33046


def test_golden_tokenizer_comes_back(reference_checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = reference_checkpoint("stage1")
    out = convert_lm(source, tmp_path / "m.gguf", out_type="F16")
    embedded = read_gguf(out).metadata[TOKENIZER_KEY].text
    assert base64.b64decode(embedded) == (source / "tokenizer.model").read_bytes()


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("out_type", ["F32", "F16", "BF16", "Q8_0"])
def test_each_direct_type(tmp_path: Path, dtype: str, out_type: str, shards: int) -> None:
    source = tmp_path / "checkpoint"
    write_llama(source, SPEC, 5, TOKENIZER, dtype=dtype, shards=shards)
    reader = GGUFReader(convert_lm(source, tmp_path / "m.gguf", out_type=out_type, trim=False))
    expected = source_values(source)
    for tensor in reader.tensors:
        values = expected[tensor.name]
        if "attn_q" in tensor.name or "attn_k" in tensor.name:
            values = values.reshape(-1, 2, 4, 64).swapaxes(1, 2).reshape(-1, 64)
        one = len(tensor.shape) == 1
        kind = GGMLQuantizationType.F32 if one else GGMLQuantizationType[out_type]
        assert tensor.tensor_type == kind
        coded = quantize(values[0] if one else values, kind)
        np.testing.assert_array_equal(tensor.data, coded, tensor.name)


def test_block_size_does_not_show(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = convert_lm(folder, tmp_path / "a.gguf", out_type="Q8_0")
    monkeypatch.setattr("yuegguf_convert.stream.BLOCK_VALUES", 7 * 64)
    assert convert_lm(folder, tmp_path / "b.gguf", out_type="Q8_0").read_bytes() == whole.read_bytes()


def test_metadata(folder: Path, tmp_path: Path) -> None:
    reader = GGUFReader(convert_lm(folder, tmp_path / "m.gguf", out_type="bf16"))
    found = {key: field.contents() for key, field in reader.fields.items() if key != TOKENIZER_KEY}
    expected = {
        "general.architecture": "llama",
        "general.name": "YuE stage 1",
        "general.license": "apache-2.0",
        "general.file_type": 32,
        "llama.vocab_size": TEXT_PIECES + 22 + 1024,
        "llama.context_length": 16384,
        "llama.embedding_length": 64,
        "llama.block_count": 2,
        "llama.feed_forward_length": 96,
        "llama.attention.head_count": 8,
        "llama.attention.head_count_kv": 2,
        "llama.rope.dimension_count": 8,
        "llama.rope.freq_base": 10000.0,
        "yuegguf.role": "stage1",
        "yuegguf.trimmed": True,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": True,
    }
    assert {key: found[key] for key in expected} == expected
    assert found["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5, rel=1e-7)


def test_progress_counts_bytes(folder: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    convert_lm(folder, tmp_path / "m.gguf", out_type="Q8_0", progress=events.append)
    done = [event.done for event in events]
    assert done == sorted(done)
    size = sum(tensor.size for tensor in open_checkpoint(folder).values())
    assert (events[-1].phase, done[-1], events[-1].total) == ("convert", size, size)


@pytest.mark.parametrize("out_type", ["Q8_0", "Q4_K_M"])
def test_stopping_leaves_nothing(folder: Path, tmp_path: Path, out_type: str) -> None:
    def stop(event: Event) -> None:
        if event.done > event.total // 2:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        convert_lm(folder, tmp_path / "m.gguf", out_type=out_type, progress=stop)
    assert leftovers(tmp_path) == []


def test_an_existing_file_stays(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.gguf"
    out.write_bytes(b"mine")
    for out_type in ("F16", "Q4_0"):
        with pytest.raises(RequestError, match="is already there"):
            convert_lm(folder, out, out_type=out_type)
        assert out.read_bytes() == b"mine"
    convert_lm(folder, out, out_type="F16", overwrite=True)
    assert read_gguf(out).tensors
    assert leftovers(tmp_path) == ["m.gguf"]
    with pytest.raises(StorageError, match="no folder"):
        convert_lm(folder, tmp_path / "nowhere" / "m.gguf", out_type="F16")


def test_a_full_disk(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("yuegguf.files.atomic.flush", full)
    with pytest.raises(StorageError, match=r"the disk is full: .*m\.gguf could not be written"):
        convert_lm(folder, tmp_path / "m.gguf", out_type="F16")
    assert leftovers(tmp_path) == []


def test_roles(tmp_path: Path) -> None:
    source = tmp_path / "checkpoint"
    write_llama(source, LlamaSpec(64, 1, 4, 4, 64, 9900, 512), 5, TOKENIZER)
    with pytest.raises(RequestError, match="context of 512"):
        convert_lm(source, tmp_path / "m.gguf", out_type="F16")
    for role, count in (("stage1", 2646), ("stage2", 8195)):
        out = convert_lm(source, tmp_path / f"{role}.gguf", out_type="F16", role=role)
        metadata = read_gguf(out).metadata
        assert (metadata["yuegguf.role"].text, len(metadata["tokenizer.ggml.tokens"].data)) == (role, count)
        assert (TOKENIZER_KEY in metadata) == (role == "stage1")


def rewrite(folder: Path, change: Callable[[dict, bytearray], None]) -> None:
    """Change the header (and data) of model.safetensors."""
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + size]), bytearray(whole[8 + size :])
    change(header, data)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def refuse(folder: Path, error: type[Exception], words: str, out_type: str = "Q8_0") -> None:
    with pytest.raises(error, match=words):
        convert_lm(folder, folder.parent / "m.gguf", out_type=out_type)
    assert leftovers(folder.parent) == []


def test_all_misfits_are_listed(folder: Path) -> None:
    def change(header: dict, _data: bytearray) -> None:
        header["model.layers.0.self_attn.q_proj.bias"] = header.pop("model.layers.0.self_attn.v_proj.weight")
        header["model.layers.1.mlp.up_proj.weight"]["shape"].reverse()
        header["model.layers.0.self_attn.rotary_emb.inv_freq"] = header.pop("model.norm.weight")

    rewrite(folder, change)
    missing = r"missing: model\.layers\.0\.self_attn\.v_proj\.weight, model\.norm\.weight; "
    extra = r"extra: model\.layers\.0\.self_attn\.q_proj\.bias; "
    shape = r"of another shape: model\.layers\.1\.mlp\.up_proj\.weight \(64, 96\) instead of \(96, 64\)"
    refuse(folder, DamagedFile, missing + extra + shape)


@pytest.mark.parametrize("out_type", ["BF16", "Q8_0", "Q4_K_M"])
@pytest.mark.parametrize("value", [0x7F80, 0xFF80, 0x7FC1])
def test_nan_and_inf(folder: Path, value: int, out_type: str) -> None:
    def change(header: dict, data: bytearray) -> None:
        at = header["model.layers.1.mlp.down_proj.weight"]["data_offsets"][1]
        data[at - 2 : at] = value.to_bytes(2, "little")

    rewrite(folder, change)
    refuse(folder, DamagedFile, r"model\.layers\.1\.mlp\.down_proj\.weight holds NaN or Inf", out_type)


def test_f16_overflow(folder: Path, tmp_path: Path) -> None:
    def change(header: dict, data: bytearray) -> None:
        at = header["lm_head.weight"]["data_offsets"][0]
        data[at : at + 2] = (0x4780).to_bytes(2, "little")  # 65536 in BF16

    rewrite(folder, change)
    refuse(folder, RequestError, "lm_head.weight holds 65536, outside the range of F16", "F16")
    convert_lm(folder, tmp_path / "m.gguf", out_type="BF16")


@pytest.mark.parametrize("part", [0.0, 0.0001, 0.01, 0.5, 0.9, 0.99999])
def test_truncated_checkpoints(folder: Path, part: float) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    refuse(folder, DamagedFile, "model.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["MistralForCausalLM"]}, "Mistral"),
        ({"architectures": ["YuE2ForCausalLM"]}, "a model of YuE2; yuegguf runs YuE v1"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "scaled RoPE"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "scaled RoPE"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"hidden_size": 128}, "instead of"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_hidden_layers": 2**31 - 1}, "num_hidden_layers"),
        ({"num_hidden_layers": 3}, "missing: model.layers.2.input_layernorm.weight"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps"),
        ({"num_key_value_heads": 3}, "impossible heads"),
        ({"tie_word_embeddings": True}, "extra: lm_head.weight"),
    ],
)
def test_other_configs_are_refused(folder: Path, change: dict, words: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refuse(folder, DamagedFile, words)


def test_configs_of_transformers_5(folder: Path, tmp_path: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["rope_theta"], config["rope_scaling"]
    config["rope_parameters"] = {"rope_theta": 5e5, "rope_type": "default"}
    path.write_text(json.dumps(config))
    out = convert_lm(folder, tmp_path / "m.gguf", out_type="F16")
    assert read_gguf(out).metadata["llama.rope.freq_base"].data == 5e5


def test_wrong_tokenizers(folder: Path) -> None:
    import sentencepiece

    path = folder / "tokenizer.model"
    whole = path.read_bytes()
    last = whole.index(b"<xcodec/7/1023>")
    path.write_bytes(whole[: last - 4])  # the entry's own two headers precede the name
    refuse(folder, DamagedFile, "wrong vocabulary: it lacks <xcodec/7/1023>")
    path.write_bytes(whole[: whole.index(b"<EOD>") - 4])
    refuse(folder, DamagedFile, "lacks <SOA>, <EOA>, <xcodec>, <stage_1>, <stage_2>, <xcodec/0/0>")
    path.write_bytes(b"not a model")
    refuse(folder, DamagedFile, r"is a text \(not a model\)")
    path.write_bytes(b"not a model\1")
    refuse(folder, DamagedFile, "not a sentencepiece model")
    path.write_bytes(whole)
    assert sentencepiece.SentencePieceProcessor(model_file=str(path)).get_piece_size() == 9814
    config = folder / "config.json"
    config.write_text(config.read_text().replace("9900", "9813"))
    refuse(folder, DamagedFile, "lm_head.weight")
    path.unlink()
    config.write_text(config.read_text().replace("9813", "9900"))
    refuse(folder, ModelNotFound, "tokenizer.model")


def test_more_pieces_than_rows(tmp_path: Path) -> None:
    write_llama(tmp_path / "checkpoint", LlamaSpec(64, 1, 4, 4, 64, 9813, 8192), 5, TOKENIZER)
    refuse(tmp_path / "checkpoint", DamagedFile, "9814 pieces, but the model only 9813 rows")


def test_missing_parts(folder: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        shutil.move(folder / name, folder / "aside")
        refuse(folder, ModelNotFound, name)
        shutil.move(folder / "aside", folder / name)


def test_unknown_types_list_the_known_ones() -> None:
    with pytest.raises(RequestError, match=r"F32, F16, BF16, Q8_0, .*Q4_K_M"):
        check_type("Q3_X")
    assert check_type("q4_k_m") in LLAMA_TYPES
