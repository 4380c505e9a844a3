"""Write the four ONNX files of a codec folder from the three published checkpoints."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import onnx

from yuegguf.codec.header import METADATA_KEY
from yuegguf.codec.protocol import CODEC_HOP, CODEC_RATE, SONG_HOP, SONG_RATE
from yuegguf.errors import ModelNotFound, StorageError
from yuegguf.files.atomic import ensured_folder, flush, refuse_to_replace, replacing
from yuegguf.files.hub_cache import snapshot_folder
from yuegguf.files.kinds import explain_absence
from yuegguf.files.pth import read_state_dict
from yuegguf.progress import Event, Progress, silent

from . import vocos, xcodec
from .half import with_half_weights
from .weights import Floats, Weights

GRAPH_ROLES = ("encoder", "decoder", "vocal_upsampler", "instrumental_upsampler")
"""Roles of the four files, in the order of writing."""
HEADER_VERSION = 1
"""Version of the header and of the graphs' inputs and outputs."""

_CODEC = "ckpt_*.pth"
_VOCAL = "decoder_131000.pth"
_INSTRUMENTAL = "decoder_151000.pth"
COPY_HINT = "name a copy of m-a-p/xcodec_mini_infer"


class Checkpoints(NamedTuple):
    """Checkpoint files of a codec, in the order of `export_codec`'s parameters."""

    xcodec: Path
    vocal_decoder: Path
    instrumental_decoder: Path


def find_checkpoints(folder: Path) -> Checkpoints:
    """Find the checkpoints in a copy of m-a-p/xcodec_mini_infer, or in one of its flatter repackings.

    Looks for `ckpt_*.pth` (the latest) in final_ckpt/, xcodec/ or the folder itself, and for the two
    upsamplers in decoders/, vocos/ or the folder itself. The `pytorch_model.bin` of the semantic
    checkpoint is never used: the codec's own file holds HuBERT as it was trained with it.
    The top folder of a hub cache stands for its snapshot. Raises ModelNotFound naming every file that is
    missing, RequestError.
    """
    if not folder.is_dir():
        raise explain_absence(folder, ModelNotFound(f"there is no folder {folder}", COPY_HINT))
    folder = snapshot_folder(folder)
    found = (
        _latest(folder, ("final_ckpt", "xcodec", "."), _CODEC),
        _latest(folder, ("decoders", "vocos", "."), _VOCAL),
        _latest(folder, ("decoders", "vocos", "."), _INSTRUMENTAL),
    )
    names = (f"final_ckpt/{_CODEC}", f"decoders/{_VOCAL}", f"decoders/{_INSTRUMENTAL}")
    codec, vocal, instrumental = found
    if codec is None or vocal is None or instrumental is None:
        missing = ", ".join(name for name, path in zip(names, found, strict=True) if path is None)
        raise ModelNotFound(f"{folder} lacks {missing}", COPY_HINT)
    return Checkpoints(codec, vocal, instrumental)


def export_codec(
    xcodec: Path,
    vocal_decoder: Path,
    instrumental_decoder: Path,
    out: Path,
    *,
    heads: int | None = None,
    half: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> list[Path]:
    """Write encoder.onnx, decoder.onnx, vocal_upsampler.onnx and instrumental_upsampler.onnx into `out`.

    All four are written beside their names and renamed at the end: a failure until then changes nothing.
    `heads` overrides HuBERT's attention heads (see hubert.heads_of). `half` stores large weights as
    float16: half the size, audio that differs below -60 dB. Peak memory is four times the
    encoder's weights, 2.3 GB at the published size. Raises ModelNotFound, DamagedFile (naming the tensor),
    StorageError; RequestError when one of the files exists and `overwrite` is false.
    """
    files = {role: out / f"{role}.onnx" for role in GRAPH_ROLES}
    _check_free(list(files.values()), overwrite)
    plan = _plan(xcodec, vocal_decoder, instrumental_decoder, heads)
    with contextlib.ExitStack() as stack:
        for done, (role, build) in enumerate(plan.items()):
            progress(Event("export", done, len(plan), role))
            model = build()
            data = (with_half_weights(model) if half else model).SerializeToString()
            if not done:  # only now: wrong checkpoints must not leave an empty folder
                stack.enter_context(ensured_folder(out))
            part = stack.enter_context(replacing(files[role]))
            part.write_bytes(data)
            flush(part)  # a full disk shows here, while no file has been renamed
    progress(Event("export", len(plan), len(plan), "done"))
    return list(files.values())


def _check_free(files: list[Path], overwrite: bool) -> None:
    """Raise StorageError when one of the files is a folder, RequestError when it exists and has to stay."""
    for file in files:
        if file.is_dir():
            raise StorageError(f"{file} is a folder", "move it away, or choose another folder")
    refuse_to_replace(files, overwrite)


def _plan(
    codec: Path, vocal: Path, instrumental: Path, heads: int | None
) -> dict[str, Callable[[], onnx.ModelProto]]:
    """Builder of each file by role; checkpoints are opened here, so a wrong one fails at once."""
    weights = Weights(read_state_dict(codec, "codec_model"), codec.name)
    tables = xcodec.codebooks(weights)
    upsamplers = [Weights(read_state_dict(path), path.name) for path in (vocal, instrumental)]

    def upsampler(role: str, weights: Weights) -> Callable[[], onnx.ModelProto]:
        size = vocos.fft_size(weights)
        facts = _header(role, tables, SONG_RATE, SONG_HOP) | {"n_fft": size}
        return lambda: _with_header(vocos.upsampler(weights, tables), facts)

    return {
        "encoder": lambda: _with_header(
            xcodec.encoder(weights, heads), _header("encoder", tables, CODEC_RATE, CODEC_HOP)
        ),
        "decoder": lambda: _with_header(
            xcodec.decoder(weights), _header("decoder", tables, CODEC_RATE, CODEC_HOP)
        ),
        "vocal_upsampler": upsampler("vocal_upsampler", upsamplers[0]),
        "instrumental_upsampler": upsampler("instrumental_upsampler", upsamplers[1]),
    }


def _header(role: str, tables: Floats, rate: int, hop: int) -> dict[str, int | str]:
    """JSON header of a graph; the fingerprint is that of the codebooks, equal in all four files."""
    books, bins, dim = tables.shape
    fingerprint = hashlib.sha256(tables.astype("<f4", copy=False).tobytes()).hexdigest()
    facts: dict[str, int | str] = {"format": HEADER_VERSION, "role": role, "fingerprint": fingerprint}
    return facts | {"codebooks": books, "bins": bins, "width": dim, "rate": rate, "hop": hop}


def _with_header(model: onnx.ModelProto, facts: dict[str, int | str]) -> onnx.ModelProto:
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(facts)})
    return model


def _latest(folder: Path, places: tuple[str, ...], pattern: str) -> Path | None:
    """The match of the highest step (a checkpoint's name ends in it) in the first place that has one.

    Raises ModelNotFound for a link that leads to nothing.
    """
    for place in places:
        files = (folder / place).iterdir() if (folder / place).is_dir() else ()
        matches = sorted((path for path in files if fnmatchcase(path.name, pattern)), key=_by_step)
        if matches:
            missing = ModelNotFound(f"{matches[-1]} is not a file", COPY_HINT)
            if not matches[-1].is_file():
                raise explain_absence(matches[-1], missing)
            return matches[-1]
    return None


def _by_step(path: Path) -> tuple[list[str | int], str]:
    """A name's texts and numbers in turn, and the name, to sort by."""
    parts = re.split("([0-9]+)", path.name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.name
