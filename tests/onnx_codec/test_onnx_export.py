"""The exporter: its files and their headers, and what happens with wrong checkpoints and folders."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from helpers import CODEC_SPECS as SPECS
from yuegguf_onnx_codec.export import METADATA_KEY, export_codec, find_checkpoints

from nano.codec_weights import write
from yuegguf.codec import header as reader
from yuegguf.codec.header import GRAPH_ROLES
from yuegguf.errors import DamagedFile, Interrupted, ModelNotFound, StorageError
from yuegguf.progress import Event


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nano")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def exported(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx") / "new" / "folder"
    export_codec(*find_checkpoints(checkpoints), folder)
    return folder


def test_export_writes_four_files_below_six_megabytes(checkpoints: Path, tmp_path: Path) -> None:
    events: list[tuple[int, int]] = []
    files = export_codec(
        *find_checkpoints(checkpoints), tmp_path / "a", progress=lambda e: events.append((e.done, e.total))
    )
    assert [file.name for file in files] == [f"{role}.onnx" for role in GRAPH_ROLES]
    assert sorted((tmp_path / "a").iterdir()) == sorted(files)
    assert sum(file.stat().st_size for file in files) < 6_000_000
    assert events == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_headers_name_role_and_codec(exported: Path) -> None:
    assert METADATA_KEY == reader.METADATA_KEY
    facts = {}
    for role in GRAPH_ROLES:
        model = onnx.load(exported / f"{role}.onnx")
        onnx.checker.check_model(model)
        facts[role] = json.loads({p.key: p.value for p in model.metadata_props}[METADATA_KEY])
        assert facts[role]["role"] == role
        assert (facts[role]["codebooks"], facts[role]["bins"], facts[role]["width"]) == (8, 1024, 32)
    assert len({entry["fingerprint"] for entry in facts.values()}) == 1
    assert facts["vocal_upsampler"]["n_fft"] == 3528


def test_exporting_twice_gives_the_same_bytes(checkpoints: Path, exported: Path, tmp_path: Path) -> None:
    for file in export_codec(*find_checkpoints(checkpoints), tmp_path):
        assert file.read_bytes() == (exported / file.name).read_bytes()


def test_export_needs_no_torch(checkpoints: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from yuegguf_onnx_codec import *; "
        f"export_codec(*find_checkpoints(Path({str(checkpoints)!r})), Path({str(tmp_path)!r})); "
        "assert 'torch' not in sys.modules and 'onnxruntime' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def spoil(tensors: dict[str, torch.Tensor], name: str, how: str) -> None:
    if how == "missing":
        del tensors[name]
    elif how == "shape":
        tensors[name] = torch.cat([tensors[name]] * 2)
    elif how == "rank":
        tensors[name] = tensors[name][None]
    else:
        tensors[name] = tensors[name].clone()
        tensors[name].view(-1)[-1] = float(how)


@pytest.mark.parametrize("how", ["missing", "shape", "rank", "-inf"])
@pytest.mark.parametrize(
    "name",
    [
        "encoder.block.0.weight_v",
        "encoder.block.2.block.4.weight_g",
        "encoder.block.5.alpha",
        "decoder_2.model.3.block.1.bias",
        "decoder_2.model.6.weight_v",
        "semantic_model.encoder.pos_conv_embed.conv.weight_g",
        "semantic_model.encoder.layers.1.attention.q_proj.weight",
        "encoder_semantic.conv_blocks.1.res_units.0.conv2.weight",
        "quantizer.vq.layers.7._codebook.embed",
        "fc_post2.weight",
    ],
)
def test_a_wrong_tensor_is_named_and_nothing_is_written(
    checkpoints: Path, tmp_path: Path, name: str, how: str
) -> None:
    files = find_checkpoints(checkpoints)
    content = torch.load(files.xcodec)
    spoil(content["codec_model"], name, how)
    torch.save(content, tmp_path / "bad.pth")
    # a doubled weight may only show where its bias, gain or the next layer no longer fits it
    module = name.rsplit(".", 1)[0] if how == "shape" else name
    with pytest.raises(DamagedFile, match=re.escape(module)) as error:
        export_codec(tmp_path / "bad.pth", files.vocal_decoder, files.instrumental_decoder, tmp_path / "out")
    assert "bad.pth" in error.value.message
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(checkpoints: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file could not be written \((File exists|Not a directory)\)"):
        export_codec(*find_checkpoints(checkpoints), tmp_path / "file")
    (tmp_path / "out" / "vocal_upsampler.onnx").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"vocal_upsampler\.onnx is a folder"):
        export_codec(*find_checkpoints(checkpoints), tmp_path / "out", overwrite=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["vocal_upsampler.onnx"]


def test_an_interrupted_export_leaves_nothing(checkpoints: Path, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if event.note == "vocal_upsampler":
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        export_codec(*find_checkpoints(checkpoints), tmp_path / "out", progress=stop)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["missing", "shape", "rank", "nan"])
@pytest.mark.parametrize(
    "name", ["backbone.embed.weight", "backbone.convnext.1.gamma", "head.out.weight", "head.istft.window"]
)
def test_a_wrong_upsampler_leaves_the_old_files(
    checkpoints: Path, exported: Path, tmp_path: Path, name: str, how: str
) -> None:
    files = find_checkpoints(checkpoints)
    tensors = torch.load(files.instrumental_decoder)
    spoil(tensors, name, how)
    torch.save(tensors, tmp_path / "bad.pth")
    before = {path: path.read_bytes() for path in exported.iterdir()}
    with pytest.raises(DamagedFile, match=re.escape(name.rsplit(".", 1)[0])):
        export_codec(files.xcodec, files.vocal_decoder, tmp_path / "bad.pth", exported, overwrite=True)
    assert {path: path.read_bytes() for path in exported.iterdir()} == before


def test_an_upsampler_of_another_width_is_refused(checkpoints: Path, tmp_path: Path) -> None:
    files = find_checkpoints(checkpoints)
    write(tmp_path, SPECS["other"])
    other = find_checkpoints(tmp_path)
    with pytest.raises(DamagedFile, match=r"backbone\.embed\.weight has shape"):
        export_codec(files.xcodec, other.vocal_decoder, other.instrumental_decoder, tmp_path / "out")
    with pytest.raises(DamagedFile, match="no key 'codec_model'"):
        export_codec(files.vocal_decoder, files.vocal_decoder, files.vocal_decoder, tmp_path / "out")


def test_the_latest_checkpoint_is_the_one_of_most_steps(tmp_path: Path) -> None:
    names = ("ckpt_99000.pth", "ckpt_100000.pth", "ckpt_00500.pth")
    for name in (*names, "decoder_131000.pth", "decoder_151000.pth"):
        (tmp_path / name).touch()
    assert find_checkpoints(tmp_path)[0] == tmp_path / "ckpt_100000.pth"


def test_checkpoints_are_found_in_every_layout(tmp_path: Path) -> None:
    layouts = (("final_ckpt", "decoders"), ("xcodec", "vocos"), (".", "."))
    for i, (codec, decoders) in enumerate(layouts):
        folder = tmp_path / str(i)
        names = [f"{codec}/ckpt_00360000.pth", *(f"{decoders}/decoder_{n}1000.pth" for n in (13, 15))]
        for name in (*names, f"{codec}/ckpt_00000100.pth", f"{codec}/hf_1_325000/pytorch_model.bin"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        assert list(find_checkpoints(folder)) == [folder / name for name in names]
        (folder / names[1]).unlink()
        with pytest.raises(ModelNotFound, match=r"lacks decoders/decoder_131000\.pth; "):
            find_checkpoints(folder)
    with pytest.raises(ModelNotFound, match=r"ckpt_.*131000.*151000"):
        find_checkpoints(tmp_path)
    with pytest.raises(ModelNotFound, match=r"there is no folder .*nowhere"):
        find_checkpoints(tmp_path / "nowhere")
