"""Headers of exported ONNX graphs, read without loading the weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from yuegguf.codec.protocol import CODEBOOKS, CODEC_HOP, CODEC_RATE, FRAME_RATE, SONG_HOP
from yuegguf.errors import DamagedFile, ModelNotFound
from yuegguf.files.kinds import explain_absence, explain_damage
from yuegguf.files.reading import open_plain_file, unreadable

GraphRole = Literal["encoder", "decoder", "vocal_upsampler", "instrumental_upsampler"]
GRAPH_ROLES: tuple[GraphRole, ...] = get_args(GraphRole)

METADATA_KEY = "yuegguf.codec"
"""ONNX metadata key of the JSON header."""
HEADER_VERSION = 1
"""Newest header version that is read."""


@dataclass(frozen=True)
class GraphHeader:
    """JSON header of an exported graph."""

    role: GraphRole
    fingerprint: str
    """SHA-256 of the codebooks, equal in all files of one codec."""
    codebooks: int
    bins: int
    """Number of entries of a codebook."""
    width: int
    """Dimension of a codebook entry."""
    n_fft: int
    """FFT size of an upsampler in samples; 0 for the other graphs."""


def read_graph_header(path: Path, role: GraphRole) -> GraphHeader:
    """Read the header of an exported graph.

    Raises DamagedFile where the file is cut off, is no ONNX model, was not made by `yuegguf export-codec`,
    is of a newer format, or has another role than its file name.
    """
    try:
        with open_plain_file(path) as file:
            text = _metadata(file, path.stat().st_size).get(METADATA_KEY)
        facts = json.loads(text) if text else None
    except PermissionError as error:
        raise unreadable(path, error) from error
    except RecursionError as error:
        raise _damaged(path, "its header is nested too deep", "export the codec again") from error
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path, error, "export the codec again") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("format"), int):
        foreign = DamagedFile(f"{path} is not a file of `yuegguf export-codec`", "export the codec again")
        raise explain_damage(path, foreign)
    if facts["format"] > HEADER_VERSION:
        raise DamagedFile(f"{path} was written by a newer yuegguf", "update yuegguf")
    if facts.get("role") != role:
        raise DamagedFile(f"{path} holds the {facts.get('role')}, not the {role}", "export the codec again")
    return _header_of(path, role, facts)


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata of any ONNX file. Raises ModelNotFound, DamagedFile."""
    try:
        with open_plain_file(path) as file:
            return _metadata(file, path.stat().st_size)
    except FileNotFoundError as error:
        raise explain_absence(path, ModelNotFound(f"there is no file {path}")) from error
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path, error, "download or export it again") from error


@dataclass(frozen=True)
class EncoderShape:
    """Channel widths of an encoder, which determine the memory of encoding, and its number of weights."""

    weights: int
    """Number of weights."""
    acoustic: int
    """Channels of the acoustic encoder at 16 kHz."""
    convolution: int
    """Channels of HuBERT's first convolutions, at 3,200 Hz."""
    hidden: int
    """Channels of HuBERT's layers, at 50 Hz."""

    @property
    def fixed(self) -> int:
        """Bytes of a loaded encoder: ONNX Runtime repacks the large matrices and keeps both copies."""
        return 6 * self.weights

    @property
    def second(self) -> int:
        """Bytes for each second of audio, an upper bound of the measurements.

        The two halves run one after the other, each with as many tensors of its widest layer as counted here.
        Measured per second: 5.5 MB at the widths 16, 16, 24 (nano; 6.3 here), 10.5 MB at 1, 256, 192, 3.6 MB
        at 1, 16, 768, and 25.6 MB at the published 64, 512, 768 (27.6 here).
        """
        heads = self.hidden // 64 if self.hidden % 64 == 0 else 12
        convolution = 4 * self.convolution * CODEC_RATE // 5
        attention = 3 * heads * QUERY_BLOCK * FRAME_RATE + 8 * self.hidden * FRAME_RATE
        kept = 2 * CODEC_RATE + 8 * self.hidden * FRAME_RATE
        return 4 * (max(6 * self.acoustic * CODEC_RATE, convolution, attention) + kept)


MAX_FIELDS, MAX_DIMS_BYTES, MAX_TEXT_BYTES = 200_000, 80, 1 << 20
"""Limits: fields of a message (the bundled encoder has 703), bytes of a weight's dimensions and of a text."""
QUERY_BLOCK = 512
"""Queries per attention step of HuBERT in every exported graph."""
_WIDTHS = {
    "acoustic": "encoder.block.0.weight",
    "convolution": "semantic_model.feature_extractor.conv_layers.0.conv.weight",
    "hidden": "semantic_model.encoder.layer_norm.weight",
}
"""Weights whose first dimension is a width."""


def read_encoder(path: Path) -> EncoderShape:
    """Read the shape of an exported encoder. Raises ModelNotFound, DamagedFile."""
    try:
        with open_plain_file(path) as file:
            shapes = {name.removesuffix(".f16"): dims for name, dims in _weights(file, path.stat().st_size)}
        widths = {field: shapes[name][0] for field, name in _WIDTHS.items()}
    except FileNotFoundError as error:
        raise ModelNotFound(f"{path} is not there", "make it with: yuegguf export-codec") from error
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (OSError, ValueError, LookupError) as error:
        raise _damaged(path, error, "export the codec again") from error
    return EncoderShape(sum(prod(dims) for dims in shapes.values()), **widths)


def _damaged(path: Path, error: Exception | str, hint: str) -> DamagedFile:
    return explain_damage(path, DamagedFile(f"{path} is damaged: {error}", hint))


def _header_of(path: Path, role: GraphRole, facts: dict[str, Any]) -> GraphHeader:
    upsampler = role.endswith("upsampler")
    names = ("codebooks", "bins", "width", "hop", *(["n_fft"] if upsampler else []))
    numbers = {name: facts[name] for name in names if isinstance(facts.get(name), int) and facts[name] > 0}
    fingerprint = facts.get("fingerprint")
    if not isinstance(fingerprint, str) or len(numbers) < len(names):
        raise DamagedFile(f"{path} has an incomplete header", "export the codec again")
    n_fft = numbers.get("n_fft", 0)
    fits = numbers["hop"] == (SONG_HOP if upsampler else CODEC_HOP) and numbers["codebooks"] == CODEBOOKS
    if not fits or numbers["bins"] > 1 << 15 or n_fft % (2 * SONG_HOP):
        raise DamagedFile(f"{path} is of another geometry than YuE's codec: {numbers}")
    return GraphHeader(role, fingerprint, CODEBOOKS, numbers["bins"], numbers["width"], n_fft)


def _weights(file: BinaryIO, size: int) -> Iterator[tuple[str, list[int]]]:
    """Name and dimensions of every initialiser of an ONNX file."""
    for number, start, length in _fields(file, 0, size):
        if number != 7:  # the graph
            continue
        for inner, at, count in _fields(file, start, start + length):
            if inner == 5:
                yield _weight(file, at, at + count)


def _weight(file: BinaryIO, start: int, end: int) -> tuple[str, list[int]]:
    """Name and dimensions of a TensorProto."""
    name, dims = "", list[int]()
    for number, at, count in _fields(file, start, end):
        if number == 8:
            name = _text(file, at, count)
        elif number == 1:  # one number, or several packed together
            position = at
            if count > MAX_DIMS_BYTES:
                raise ValueError(f"a weight has {count} bytes of dimensions")
            while position < at + count:
                value, position = _varint(file, position)
                dims.append(value)
    return name, dims


def _metadata(file: BinaryIO, size: int) -> dict[str, str]:
    """metadata_props of an ONNX file; the other fields of its ModelProto are skipped."""
    metadata: dict[str, str] = {}
    if not size:
        raise ValueError("it is empty")
    for number, start, length in _fields(file, 0, size):
        if number == 14:
            parts = {key: (at, count) for key, at, count in _fields(file, start, start + length)}
            key, value = (_text(file, *parts[field]) for field in (1, 2))
            metadata[key] = value
    return metadata


def _fields(file: BinaryIO, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and length of each field of a protobuf message in bytes position … end."""
    for _ in range(MAX_FIELDS):
        if position >= end:
            return
        tag, position = _varint(file, position)
        kind = tag & 7
        if not tag >> 3 or kind not in (0, 1, 2, 5):
            raise ValueError("it is not an ONNX model")
        if kind == 0:
            length = _varint(file, position)[1] - position
        elif kind == 2:
            length, position = _varint(file, position)
        else:
            length = 8 if kind == 1 else 4
        if position + length > end:
            raise ValueError("it is cut off")
        yield tag >> 3, position, length
        position += length
    raise ValueError("it has too many parts")


def _varint(file: BinaryIO, position: int) -> tuple[int, int]:
    """A protobuf varint, and the position after it."""
    file.seek(position)
    value = 0
    for i, byte in enumerate(file.read(10)):
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            return value, position + i + 1
    raise ValueError("it is cut off")


def _text(file: BinaryIO, position: int, length: int) -> str:
    if length > MAX_TEXT_BYTES:
        raise ValueError(f"it has a text of {length} bytes")
    file.seek(position)
    return file.read(length).decode()
