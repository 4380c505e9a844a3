"""The exported graphs against transformers, PyTorch and the official codec's inner values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import spox.opset.ai.onnx.v17 as op
import torch
from helpers import CODEC_SPECS as SPECS
from spox import Tensor, argument
from torch import nn
from yuegguf_onnx_codec import vocos as vocos_graph
from yuegguf_onnx_codec import xcodec as graphs
from yuegguf_onnx_codec.hubert import heads_of, mean_of_hidden_states
from yuegguf_onnx_codec.layers import Layers, ints
from yuegguf_onnx_codec.weights import Weights

from nano.codec_weights import CodecSpec, Tensors, vocos, xcodec
from yuegguf.codec.onnx import inverse_stft
from yuegguf.errors import DamagedFile
from yuegguf.files.pth import read_state_dict

EVERY_SPEC = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


def run(model: onnx.ModelProto, **feeds: Any) -> list[np.ndarray]:
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def audio(samples: int, seed: int = 0) -> np.ndarray:
    """Gliding tones and noise: frames that differ."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / 16000
    tones = sum(np.sin(2 * np.pi * f * t * (1 + 0.3 * t)) for f in rng.uniform(80, 3000, 6))
    return (0.08 * tones + 0.03 * rng.standard_normal(samples)).astype(np.float32)


# transformers' XcodecModel, whose names differ from the published ones
_UNIT = {"0": "snake1", "1": "conv1", "2": "snake2", "3": "conv2"}


def _theirs(name: str) -> str:
    """Published key → key of transformers.XcodecModel."""

    def unit(match: re.Match[str]) -> str:
        side, i, j, part = match.groups()
        number = int(j) + 1 if side == "encoder" else int(j) - 1
        return f"acoustic_{side}.block.{int(i) - 1}.res_unit{number}.{_UNIT[part]}"

    name = re.sub(r"^decoder_2\.model\.", "decoder.block.", name)
    name = re.sub(r"^(encoder|decoder)\.block\.(\d)\.block\.(\d)\.block\.(\d)", unit, name)
    for pattern, new in (
        (r"^(en|de)coder\.block\.0\.", r"acoustic_\1coder.conv1."),
        (r"^(en|de)coder\.block\.5\.", r"acoustic_\1coder.snake1."),
        (r"^(en|de)coder\.block\.6\.", r"acoustic_\1coder.conv2."),
        (r"^encoder\.block\.(\d)\.block\.3", lambda m: f"acoustic_encoder.block.{int(m[1]) - 1}.snake1"),
        (r"^encoder\.block\.(\d)\.block\.4", lambda m: f"acoustic_encoder.block.{int(m[1]) - 1}.conv1"),
        (r"^decoder\.block\.(\d)\.block\.0", lambda m: f"acoustic_decoder.block.{int(m[1]) - 1}.snake1"),
        (r"^decoder\.block\.(\d)\.block\.1", lambda m: f"acoustic_decoder.block.{int(m[1]) - 1}.conv_t1"),
        (r"^(encoder_semantic\..*)\.conv\.(weight|bias)$", r"\1.\2"),
        (r"^quantizer\.vq\.layers\.(\d+)\._codebook", r"quantizer.quantizers.\1.codebook"),
        (r"^fc_prior", "fc"),
        (r"^fc_post2", "fc2"),
        (r"weight_g$", "parametrizations.weight.original0"),
        (r"weight_v$", "parametrizations.weight.original1"),
    ):
        name = re.sub(pattern, new, name)
    return name


def their_model(spec: CodecSpec, tensors: Tensors) -> nn.Module:
    from transformers import DacConfig, HubertConfig, XcodecConfig, XcodecModel

    ratios = [8, 5, 4, 2]
    acoustic = DacConfig(
        encoder_hidden_size=spec.encoder_base, decoder_hidden_size=spec.decoder_base,
        downsampling_ratios=ratios, upsampling_ratios=ratios, hidden_size=spec.acoustic,
    )  # fmt: skip
    semantic = HubertConfig(
        hidden_size=spec.hubert, num_hidden_layers=spec.hubert_layers, intermediate_size=spec.hubert_ffn,
        num_attention_heads=heads_of(spec.hubert), conv_dim=[spec.hubert_conv] * 7,
        num_conv_pos_embedding_groups=spec.hubert_groups, attn_implementation="eager",
    )  # fmt: skip
    model = XcodecModel(XcodecConfig(acoustic_model_config=acoustic, semantic_model_config=semantic)).eval()
    model.apply_weight_norm()
    mapped = {_theirs(name): torch.from_numpy(np.array(array)) for name, array in tensors.items()}
    missing, unexpected = model.load_state_dict(mapped, strict=False)
    assert all(re.match(r"decoder_semantic|fc1|semantic_model.masked_spec_embed", key) for key in missing)
    assert all(re.match(r"quantizer.quantizers.(8|9|10|11)\.", key) for key in unexpected)
    return model


@EVERY_SPEC
def test_encoder_and_decoder_equal_transformers(spec: CodecSpec) -> None:
    tensors = xcodec(spec)
    theirs = their_model(spec, tensors)
    weights = Weights(tensors, "drawn")
    encoder, decoder = (
        ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        for graph in (graphs.encoder(weights), graphs.decoder(weights))
    )
    # on and around both edges of the branch that shifts the acoustic half, S mod 320 in 80 … 311
    for samples in (312, 320, 400, 719, 720, 3279, 3280, 3511, 3512, 16000, 16200):
        wave = audio(samples, samples)
        (codes,) = encoder.run(None, {"wave": wave})
        assert codes.shape == (8, (samples + 240) // 320)
        with torch.no_grad():
            wanted = theirs.encode(torch.from_numpy(wave)[None, None], bandwidth=4).audio_codes[0].numpy()
        np.testing.assert_array_equal(codes, wanted)
        for books in (1, 5, 8):
            (sound,) = decoder.run(None, {"codes": codes[:books]})
            with torch.no_grad():
                out = theirs.decode(torch.from_numpy(codes[:books])[None]).audio_values[0, 0].numpy()
            assert sound.shape == (320 * codes.shape[1],)
            np.testing.assert_allclose(sound, out, rtol=0, atol=2e-6)


def test_attention_in_blocks_equals_attention_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = Weights(xcodec(), "drawn")
    wave = audio(16000)
    wanted = run(graphs.encoder(weights), wave=wave)[0]
    for block in (1, 7, 50):
        monkeypatch.setattr("yuegguf_onnx_codec.hubert.QUERY_BLOCK", block)
        np.testing.assert_array_equal(run(graphs.encoder(weights), wave=wave)[0], wanted)


class Vocos(nn.Module):
    """The upsampler in PyTorch: ConvNeXt backbone, Fourier head, torch.istft replaced by its definition."""

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.w = {name: torch.from_numpy(np.array(array)).double() for name, array in tensors.items()}

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = self.w[f"{name}.weight"], self.w[f"{name}.bias"]
        return nn.functional.layer_norm(x, weight.shape, weight, bias, 1e-6)

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return nn.functional.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def _conv(self, x: torch.Tensor, name: str, groups: int) -> torch.Tensor:
        weight, bias = self.w[f"{name}.weight"], self.w[f"{name}.bias"]
        return nn.functional.conv1d(x.T[None], weight, bias, padding=3, groups=groups)[0].T

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[T, D] → [882·T]."""
        x = self._norm(self._conv(x, "backbone.embed", 1), "backbone.norm")
        for i in range(sum(name.endswith("gamma") for name in self.w)):
            block = f"backbone.convnext.{i}"
            y = self._norm(self._conv(x, f"{block}.dwconv", x.shape[1]), f"{block}.norm")
            y = self._linear(nn.functional.gelu(self._linear(y, f"{block}.pwconv1")), f"{block}.pwconv2")
            x = x + y * self.w[f"{block}.gamma"]
        m, p = self._linear(self._norm(x, "backbone.final_layer_norm"), "head.out").chunk(2, dim=1)
        spectrum = torch.polar(m.exp().clamp(max=100), p)
        window = self.w["head.istft.window"]
        frames = torch.fft.irfft(spectrum, len(window), dim=1) * window
        wave = torch.zeros((len(frames) - 1) * 882 + len(window), dtype=torch.float64)
        envelope = torch.zeros_like(wave)
        for t, frame in enumerate(frames):
            wave[882 * t : 882 * t + len(window)] += frame
            envelope[882 * t : 882 * t + len(window)] += window**2
        return (wave / envelope.clamp(min=1e-11))[1323:-1323]


@EVERY_SPEC
@pytest.mark.parametrize("frames", [1, 2, 3, 40])
def test_upsampler_equals_pytorch(spec: CodecSpec, frames: int) -> None:
    weights, tables = vocos(spec, "vocal"), graphs.codebooks(Weights(xcodec(spec), "drawn"))
    codes = np.random.default_rng(frames).integers(0, 1024, (8, frames))
    real, imag = run(vocos_graph.upsampler(Weights(weights, "drawn"), tables), codes=codes)
    wave = inverse_stft(real, imag, 3528)
    embedding = sum(tables[k][codes[k]].astype(np.float64) for k in range(8))
    with torch.no_grad():
        wanted = Vocos(weights)(torch.from_numpy(embedding)).numpy()
    assert wave.shape == (882 * frames,)
    assert wave.dtype == np.float32
    np.testing.assert_allclose(wave, wanted, rtol=0, atol=2e-6)


def respelled(tensors: Tensors, spelling: str) -> Tensors:
    """The same weights with weight normalisation in another spelling, folded by PyTorch if asked."""
    out = dict(tensors)
    for name in [name for name in tensors if name.endswith("weight_v")]:
        module = name.removesuffix(".weight_v")
        v, g = out.pop(name), out.pop(f"{module}.weight_g")
        if spelling == "parametrizations":
            out[f"{module}.parametrizations.weight.original0"] = g
            out[f"{module}.parametrizations.weight.original1"] = v
        else:
            axis = 2 if "pos_conv" in module else 0
            out[f"{module}.weight"] = torch._weight_norm(torch.tensor(v), torch.tensor(g), axis).numpy()
    return out


def test_weight_norm_spellings_give_the_same_graphs() -> None:
    tensors = xcodec()
    codes = np.random.default_rng(0).integers(0, 1024, (8, 20))
    wave = audio(8000)
    sound = run(graphs.decoder(Weights(tensors, "a")), codes=codes)[0]
    heard = run(graphs.encoder(Weights(tensors, "a")), wave=wave)[0]
    for spelling, tolerance in (("parametrizations", 0.0), ("folded", 1e-6)):
        weights = Weights(respelled(tensors, spelling), "b")
        (again,) = run(graphs.decoder(weights), codes=codes)
        np.testing.assert_allclose(again, sound, rtol=0, atol=tolerance)
        np.testing.assert_array_equal(run(graphs.encoder(weights), wave=wave)[0], heard)


def test_attention_heads_can_be_given() -> None:
    weights = Weights(xcodec(), "drawn.pth")
    wave = audio(8000)
    codes = [run(graphs.encoder(weights, heads), wave=wave)[0] for heads in (None, 12, 3)]
    np.testing.assert_array_equal(codes[0], codes[1])
    assert not np.array_equal(codes[0], codes[2])
    with pytest.raises(DamagedFile, match="width 24 cannot be split into 5 heads"):
        graphs.encoder(weights, 5)


def test_features_inside_the_encoder_equal_the_official_ones(
    golden: Callable[[str], Path], reference_checkpoint: Callable[[str], Path]
) -> None:
    wanted = np.load(golden("codec_micro.npz"))
    wave = np.load(golden("audio.npz"))["mix_16k"].astype(np.float32) / 32768
    path = reference_checkpoint("xcodec_micro") / "ckpt_00360000.pth"
    weights = Weights(read_state_dict(path, "codec_model"), path.name)
    g = Layers(weights)
    x = argument(Tensor(np.float32, (1, 1, None)))
    model = g.model({"x": x}, {"mean": mean_of_hidden_states(g, x)})
    (mean,) = run(model, x=np.pad(wave, 160)[None, None])
    np.testing.assert_allclose(mean, wanted["semantic_mean"], rtol=0, atol=1e-4)
    g = Layers(weights)
    codes = argument(Tensor(np.int64, (None, None)))
    embed = op.add(graphs.embedding(g, codes, graphs.codebooks(weights)), op.cast(ints(0), to=np.float32))
    (embed,) = run(g.model({"codes": codes}, {"embed": embed}), codes=wanted["dec50_codes"].astype(np.int64))
    np.testing.assert_allclose(embed.T, wanted["dec50_embed"], rtol=0, atol=1e-5)
