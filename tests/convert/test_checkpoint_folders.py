"""Folders of checkpoints as people have them: PyTorch files, shards, hub caches, adapters, gaps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from adapters import write_peft
from family import LM
from helpers import Capture, cli, refused
from tiny_gguf import write_tiny
from torch_files import Stored, stored_tensors, write_torch
from yuegguf_convert.checkpoint import FORMATS, open_checkpoint
from yuegguf_convert.lm import convert_lm
from yuegguf_convert.lora import convert_lora
from yuegguf_convert.peft import TORCH_WEIGHTS, WEIGHTS
from yuegguf_onnx_codec.export import find_checkpoints

from nano import tokenizer
from nano.lm_weights import write_llama
from yuegguf.errors import DamagedFile, ModelNotFound, RequestError

Make = Callable[[Path, Path], object]
COMMIT, OTHER = "0123456789abcdef" * 2 + "01234567", "f" * 40
SMALL = ("config.json", "tokenizer.model")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage-1 checkpoint of one layer in safetensors."""
    folder = tmp_path_factory.mktemp("checkpoint") / "whole"
    write_llama(folder, LM, 1, tokenizer.build_tokenizer())
    return folder


@pytest.fixture(scope="module")
def converted(checkpoint: Path) -> bytes:
    """The GGUF of that checkpoint."""
    return convert_lm(checkpoint, checkpoint.parent / "whole.gguf", out_type="F16").read_bytes()


def with_small_files(checkpoint: Path, folder: Path) -> Path:
    """A folder with all but the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SMALL:
        shutil.copy(checkpoint / name, folder)
    return folder


def halves(checkpoint: Path) -> list[dict[str, Stored]]:
    """The tensors in two parts."""
    tensors = list(stored_tensors(checkpoint).items())
    return [dict(tensors[: len(tensors) // 2]), dict(tensors[len(tensors) // 2 :])]


def shards(checkpoint: Path, folder: Path, index: bool = True) -> list[Path]:
    """Two shards of PyTorch files."""
    parts, names = halves(checkpoint), [f"pytorch_model-{i}-of-00002.bin" for i in ("00001", "00002")]
    if index:
        where = {tensor: name for part, name in zip(parts, names, strict=True) for tensor in part}
        size = sum(len(tensor.data) for part in parts for tensor in part.values())
        text = json.dumps({"metadata": {"total_size": size}, "weight_map": where})
        (folder / "pytorch_model.bin.index.json").write_text(text)
    return [write_torch(folder / name, part) for part, name in zip(parts, names, strict=True)]


LAYOUTS: dict[str, Make] = {
    "one file": lambda c, f: write_torch(f / "pytorch_model.bin", stored_tensors(c)),
    "shards": shards,
    "shards without their index": lambda c, f: shards(c, f, index=False),
    "a name of its own": lambda c, f: write_torch(f / "finetuned.pth", stored_tensors(c)),
    "a trainer's state": lambda c, f: write_torch(f / "last.pt", stored_tensors(c), "state_dict"),
    "safetensors of its own name": lambda c, f: shutil.copy(c / "model.safetensors", f / "opera.safetensors"),
    "a trainer's other files": lambda c, f: [
        write_torch(f / "pytorch_model.bin", stored_tensors(c)),
        (f / "training_args.bin").write_bytes(b"x"),
        (f / "optimizer.pt").write_bytes(b"x"),
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_weights_gives_the_same_gguf(
    layout: str, checkpoint: Path, converted: bytes, tmp_path: Path
) -> None:
    folder = with_small_files(checkpoint, tmp_path / "checkpoint")
    LAYOUTS[layout](checkpoint, folder)
    assert convert_lm(folder, tmp_path / "out.gguf", out_type="F16").read_bytes() == converted


def test_a_changed_byte_of_a_pytorch_file_is_found_and_nothing_is_written(
    checkpoint: Path, tmp_path: Path
) -> None:
    folder, tensors = with_small_files(checkpoint, tmp_path / "checkpoint"), stored_tensors(checkpoint)
    path = write_torch(folder / "pytorch_model.bin", tensors)
    data = bytearray(path.read_bytes())
    data[data.index(tensors["model.norm.weight"].data) + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFile, match=r"pytorch_model\.bin: a storage does not match its checksum"):
        convert_lm(folder, tmp_path / "out.gguf", out_type="F16")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint"]


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (Stored("FloatStorage", (2, 3), bytes(24), (1, 2)), "tensor w is stored transposed or with gaps"),
        (Stored("LongStorage", (3,), bytes(24)), "tensor w has numbers of LongStorage; only F32, F16, BF16"),
        (Stored("FloatStorage", (7,), bytes(24)), "tensor w cannot be read: it leaves its storage"),
    ],
)
def test_tensors_that_are_not_read_are_named(tensor: Stored, words: str, tmp_path: Path) -> None:
    write_torch(tmp_path / "pytorch_model.bin", {"w": tensor})
    with pytest.raises(DamagedFile, match=words):
        open_checkpoint(tmp_path)


def test_two_shards_with_one_tensor_are_refused(tmp_path: Path) -> None:
    for number in ("00001", "00002"):
        tensor = Stored("FloatStorage", (1,), bytes(4))
        write_torch(tmp_path / f"pytorch_model-{number}-of-00002.bin", {"w": tensor})
    with pytest.raises(DamagedFile, match=r"holds tensors that another shard in .* holds: w"):
        open_checkpoint(tmp_path)


def test_several_files_without_an_index_are_named(tmp_path: Path) -> None:
    for name in ("a.pth", "b.safetensors"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(RequestError, match=r"several files of weights and no index: a\.pth, b\.safetensors"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("index", [True, False])
def test_a_missing_shard_is_named(index: bool, checkpoint: Path, tmp_path: Path) -> None:
    there, gone = shards(checkpoint, tmp_path, index)
    size = sum(len(tensor.data) for part in halves(checkpoint) for tensor in part.values())
    lost = size - there.stat().st_size
    gone.unlink()
    with pytest.raises(ModelNotFound) as caught:
        open_checkpoint(tmp_path)
    amount = f", about {lost / 1e6:.1f} MB of {size / 1e6:.1f} MB" if index else ""
    assert lost > 1e5
    assert caught.value.message == f"{tmp_path} lacks pytorch_model-00002-of-00002.bin{amount}"


def test_a_lost_shard_of_a_hub_cache_names_its_blob_and_the_command(tmp_path: Path) -> None:
    snapshot = hub_cache(tmp_path, "m-a-p", "YuE-s1-7B-anneal-en-cot") / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    names = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    (snapshot / FORMATS[0].index_name).write_text(
        json.dumps({"weight_map": dict(zip("abc", names, strict=True))})
    )
    (snapshot / names[0]).write_bytes(b"x")
    (snapshot / names[2]).symlink_to("../../blobs/abc")
    with pytest.raises(ModelNotFound) as caught:
        open_checkpoint(snapshot)
    blob = snapshot.parents[1] / "blobs" / "abc"
    lost = f"{names[1]}, {names[2]} (a link to {blob}, which is not there)"
    command = f"hf download m-a-p/YuE-s1-7B-anneal-en-cot {names[1]} {names[2]} --cache-dir {tmp_path}"
    assert str(caught.value) == f"{snapshot} lacks {lost}; get them with: {command}"


def hub_cache(root: Path, owner: str, name: str) -> Path:
    """The top folder of a repository in a hub cache."""
    top = root / f"models--{owner}--{name}"
    (top / "blobs").mkdir(parents=True)
    (top / "refs").mkdir()
    (top / "refs" / "main").write_text(COMMIT)
    return top


def cached(checkpoint: Path, top: Path, commit: str) -> None:
    """A snapshot of links to blobs."""
    snapshot = top / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for path in checkpoint.iterdir():
        shutil.copy(path, top / "blobs" / f"blob of {path.name}")
        (snapshot / path.name).symlink_to(f"../../blobs/blob of {path.name}")


def test_the_top_folder_of_a_hub_cache_stands_for_its_snapshot(
    checkpoint: Path, converted: bytes, tmp_path: Path
) -> None:
    top = hub_cache(tmp_path, "somebody", "YuE-opera")
    cached(checkpoint, top, COMMIT)
    (top / "snapshots" / OTHER).mkdir()  # an older one without files
    for number, folder in enumerate((top, top / "snapshots", top / "snapshots" / COMMIT)):
        out = convert_lm(folder, tmp_path / f"{number}.gguf", out_type="F16")
        assert out.read_bytes() == converted
    shutil.rmtree(top / "refs")
    with pytest.raises(RequestError, match="holds 2 snapshots, and refs/main names none of them"):
        convert_lm(top, tmp_path / "out.gguf", out_type="F16")
    (top / "snapshots" / OTHER).rmdir()
    assert convert_lm(top, tmp_path / "out.gguf", out_type="F16").read_bytes() == converted


@pytest.mark.parametrize("ref", ["../../..", "/tmp", "", "0" * 40, "\xff\xfe", "main"])
def test_a_ref_that_names_no_snapshot_leads_nowhere(ref: str, checkpoint: Path, tmp_path: Path) -> None:
    top = hub_cache(tmp_path, "somebody", "YuE-opera")
    (top / "refs" / "main").write_text(ref)
    (top / "snapshots").mkdir()
    with pytest.raises(ModelNotFound) as caught:
        convert_lm(top, tmp_path / "out.gguf", out_type="F16")
    command = "download it again: hf download somebody/YuE-opera"
    assert str(caught.value) == f"{top} is a hub cache without a snapshot; {command}"


def test_a_lost_link_is_said_before_anything_is_read(checkpoint: Path, tmp_path: Path) -> None:
    top = hub_cache(tmp_path, "somebody", "YuE-opera")
    cached(checkpoint, top, COMMIT)
    for name in ("config.json", "model.safetensors"):
        (top / "blobs" / f"blob of {name}").rename(tmp_path / name)
        with pytest.raises(ModelNotFound) as caught:
            convert_lm(top, tmp_path / "out.gguf", out_type="F16")
        link, blob = top / "snapshots" / COMMIT / name, top / "blobs" / f"blob of {name}"
        assert caught.value.message == f"{link} is a link to {blob}, which is not there"
        assert caught.value.hint.startswith(f"get it with: hf download somebody/YuE-opera {name} --cache-dir")
        (tmp_path / name).rename(blob)


def test_all_that_is_missing_is_named_at_once_with_its_size(checkpoint: Path, tmp_path: Path) -> None:
    size = sum(len(tensor.data) for tensor in stored_tensors(checkpoint).values())
    weights = f"the weights (model.safetensors, {size / 1e6:.1f} MB in 16 bits)"
    folder = with_small_files(checkpoint, tmp_path / "opera")
    assert missing(folder) == f"{folder} lacks {weights}"
    (folder / "tokenizer.model").unlink()
    assert missing(folder) == f"{folder} lacks {weights}, tokenizer.model"
    shutil.copy(checkpoint / "model.safetensors", folder)
    command = "hf download m-a-p/YuE-s1-7B-anneal-en-cot tokenizer.model --local-dir"
    assert (
        missing(folder, hint=f"get YuE's own with: {command} {folder}") == f"{folder} lacks tokenizer.model"
    )
    known = tmp_path / "YuE-s2-1B-general"
    known.mkdir()
    command = f"hf download m-a-p/YuE-s2-1B-general --local-dir {known}"
    said = missing(known, hint=f"get what is missing with: {command}")
    assert said == f"{known} lacks the weights (model.safetensors), config.json, tokenizer.model"
    assert missing(tmp_path / "nowhere") == f"there is no folder {tmp_path / 'nowhere'}"


def missing(folder: Path, hint: str = "") -> str:
    """The sentence of a conversion that lacks something."""
    with pytest.raises(ModelNotFound) as caught:
        convert_lm(folder, folder.parent / "out.gguf", out_type="F16")
    assert not hint or caught.value.hint == hint
    return caught.value.message


def test_what_needs_another_command_is_said(checkpoint: Path, tmp_path: Path) -> None:
    base = write_tiny(tmp_path / "base.gguf")
    adapter = write_peft(tmp_path / "an adapter", base)
    with pytest.raises(RequestError) as caught:
        convert_lm(adapter, tmp_path / "out.gguf", out_type="F16")
    command = f"convert it with: yuegguf convert-lora '{adapter}'"
    assert str(caught.value) == f"{adapter} is a LoRA adapter, not a whole model; {command}"
    with pytest.raises(RequestError) as caught:
        convert_lora(checkpoint, tmp_path / "out.gguf", base=base)
    command = f"convert it with: yuegguf convert {checkpoint}"
    assert str(caught.value) == f"{checkpoint} is a whole model, not a LoRA adapter; {command}"
    with pytest.raises(RequestError) as caught:
        convert_lm(base.parent, tmp_path / "out.gguf", out_type="F16")
    hint = f"use it with --stage1-model or --stage2-model {tmp_path}"
    assert str(caught.value) == f"{tmp_path} holds base.gguf, which needs no conversion; {hint}"
    with pytest.raises(RequestError, match=f"is a file; pass the folder that holds it: {checkpoint}"):
        convert_lm(checkpoint / "model.safetensors", tmp_path / "out.gguf", out_type="F16")


def test_the_command_names_what_it_cannot_convert_before_it_asks_for_a_name(
    checkpoint: Path, capsys: Capture, tmp_path: Path
) -> None:
    adapter = write_peft(tmp_path / "opera", write_tiny(tmp_path / "base.gguf"))
    said = refused(capsys, 5, "--models-dir", tmp_path, "convert", adapter)
    assert said.startswith(f"{adapter} is a LoRA adapter, not a whole model; ")
    said = refused(capsys, 3, "--models-dir", tmp_path, "convert", tmp_path / "nowhere")
    assert said == f"there is no folder {tmp_path / 'nowhere'}; check the name"
    said = refused(capsys, 5, "--models-dir", tmp_path, "convert", checkpoint)
    assert said.startswith(f"{checkpoint} does not have a published model's name; pass -o FILE, or --name")


def test_the_command_installs_a_published_model_of_a_hub_cache(
    checkpoint: Path, converted: bytes, capsys: Capture, tmp_path: Path
) -> None:
    top = hub_cache(tmp_path / "hub", "m-a-p", "YuE-s1-7B-anneal-en-cot")
    cached(checkpoint, top, COMMIT)
    line = ("--models-dir", tmp_path / "models", "convert", top, "--type", "F16", "--json")
    made = cli(capsys, *line).json["file"]
    assert made == str(tmp_path / "models" / "en-cot-F16.gguf")
    assert Path(made).read_bytes() == converted


def test_an_adapter_of_a_pytorch_file_is_the_same_adapter(tmp_path: Path) -> None:
    base = write_tiny(tmp_path / "base.gguf")
    adapter = write_peft(tmp_path / "opera", base)
    whole = convert_lora(adapter, tmp_path / "a.gguf", base=base).read_bytes()
    (adapter / WEIGHTS).rename(tmp_path / "model.safetensors")
    write_torch(adapter / TORCH_WEIGHTS, stored_tensors(tmp_path))
    assert convert_lora(adapter, tmp_path / "b.gguf", base=base).read_bytes() == whole


def test_a_codec_in_a_hub_cache_is_found_and_its_lost_link_named(tmp_path: Path) -> None:
    top = hub_cache(tmp_path, "m-a-p", "xcodec_mini_infer")
    snapshot = top / "snapshots" / COMMIT
    names = ("final_ckpt/ckpt_00360000.pth", "decoders/decoder_131000.pth", "decoders/decoder_151000.pth")
    for name in names:
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_bytes(b"x")
    assert find_checkpoints(top) == tuple(snapshot / name for name in names)
    (snapshot / names[1]).unlink()
    (snapshot / names[1]).symlink_to("../../../blobs/abc")
    with pytest.raises(ModelNotFound) as caught:
        find_checkpoints(top)
    command = f"hf download m-a-p/xcodec_mini_infer {names[1]} --cache-dir {tmp_path}"
    lost = f"{snapshot / names[1]} is a link to {top / 'blobs' / 'abc'}, which is not there"
    assert str(caught.value) == f"{lost}; get it with: {command}"
