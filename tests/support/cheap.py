"""Engines of exact arithmetic for the whole program: a song in half a second, the same on any processor.

They open the same files as the real ones and refuse the same headers, but compute by hashing.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec import onnx
from yuegguf.codec.onnx import OrtCodec
from yuegguf.codec.protocol import CODEC_HOP
from yuegguf.errors import CodecError, DamagedFile, EngineError, Interrupted, StorageError
from yuegguf.lm import header, llama
from yuegguf.lm.adapters import read_adapter
from yuegguf.lm.gguf_model import CheckedModel, read_model
from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.lm.protocol import SequenceInput
from yuegguf.models.resolve import nano_models

MASK = (1 << 61) - 1
PLACES = 1 << 16
NOISE = (np.random.default_rng(1).integers(0, 1 << 24, PLACES + 100_000) / 2.0**21 - 4).astype(np.float32)
"""Exact numbers between -4 and 4; a sequence's logits begin at the place that its ids hash to."""
BUNDLED = nano_models().stage1.parent
PATTERNS = 64
"""Entries of a codebook that give different audio."""
PACE = "YUEGGUF_TEST_PACE"
"""Environment variable: path of a file with the seconds of a step; without the file steps take no pause."""

Put = Callable[[object, str, object], None]


class HashEngine:
    """A TokenEngine whose logits are a hash of everything that the sequence was fed."""

    def __init__(self, path: Path, options: EngineOptions, stop: Callable[[], bool] = lambda: False) -> None:
        model = _model(path, *_version(path))
        self.pieces, self.metadata = model.pieces, model.metadata
        self.n_ctx, self.n_rows, self.busy = options.n_ctx, options.n_rows, 0.0
        self.n_batch = options.batch
        self._stop = stop
        self._start = len(self.pieces)
        for lora in options.loras:
            if lora.scale:
                read_adapter(lora.path, model.shape.projections(), path.name)
                self._start = _next(self._start, zlib.crc32(lora.path.read_bytes()) + hash(lora.scale))
        self._hashes: list[list[int]] = [[self._start] for _ in range(self.n_rows)]
        """Hash after each id of each sequence."""

    def decode(self, inputs: Sequence[SequenceInput]) -> NDArray[np.float32]:
        for each in inputs:
            if not 0 <= each.seq < self.n_rows or not 1 <= len(each.ids) >= each.n_logits:
                raise EngineError(
                    f"sequence {each.seq} of {self.n_rows} with {len(each.ids)} ids cannot be decoded"
                )
            if len(self._hashes[each.seq]) - 1 + len(each.ids) > self.n_ctx:
                raise EngineError(f"the context of {self.n_ctx} ids is full", "use a larger --ctx")
        if sum(len(each.ids) for each in inputs) > 4 * self.n_rows and self._stop():
            raise Interrupted("stopped while reading the prompt")
        _pause()
        logits = []
        for each in inputs:
            held = self._hashes[each.seq]
            for token in each.ids:
                held.append(_next(held[-1], token))
            logits += [
                NOISE[place % PLACES :][: len(self.pieces)] for place in held[len(held) - each.n_logits :]
            ]
        return np.stack(logits) if logits else np.empty((0, len(self.pieces)), np.float32)

    def forget(self, seq: int, keep: int) -> None:
        del self._hashes[seq][keep + 1 :]

    def copy(self, src: int, dst: int) -> None:
        self._hashes[dst] = list(self._hashes[src])

    def save(self, seq: int, path: Path) -> None:
        try:
            path.write_bytes(np.array(self._hashes[seq], np.int64).tobytes())
        except OSError as error:
            raise StorageError(f"could not write {path}", "free some disk space") from error

    def load(self, seq: int, path: Path) -> None:
        held = np.frombuffer(path.read_bytes(), np.int64).tolist()
        if not held or held[0] != self._start or len(held) > self.n_ctx + 1:
            raise DamagedFile(f"{path.name} is not a cache of this model", "delete it and resume again")
        self._hashes[seq] = held

    def length(self, seq: int) -> int:
        return len(self._hashes[seq]) - 1

    def cache(self, seq: int) -> NDArray[np.uint8]:
        return np.array(self._hashes[seq], np.int64).view(np.uint8)

    def put_cache(self, seq: int, length: int, cache: NDArray[np.uint8]) -> None:
        self._hashes[seq] = cache.view(np.int64).tolist()
        assert self.length(seq) == length

    def resize(self, n_rows: int, n_ctx: int) -> None:
        if max(map(len, self._hashes[:n_rows])) > n_ctx + 1:
            raise EngineError("a sequence is longer")
        self._hashes = [*self._hashes, *([self._start] for _ in range(n_rows))][:n_rows]
        self.n_rows, self.n_ctx = n_rows, n_ctx

    def close(self) -> None:
        self._hashes = []


class PatternCodec(OrtCodec):
    """An AudioCodec of which every frame is computed alone, without loading a graph."""

    def _run(self, role: onnx.GraphRole, outputs: list[str], feeds: dict[str, Any]) -> list[NDArray[Any]]:
        if self._closed:
            raise CodecError("the codec is closed")
        _pause()
        header = self._header(role)
        if role == "encoder":
            return [_codes(feeds["wave"], header.bins)]
        if role == "decoder":
            return [_frames(feeds["codes"], CODEC_HOP, 0.02).ravel()]
        spectrum = _frames(feeds["codes"], header.n_fft // 2 + 1, 2.0)
        return [spectrum, spectrum[:, ::-1] * np.float32(1 if role == "vocal_upsampler" else -1)]


def install(put: Put) -> None:
    """Open these wherever the program opens llama.cpp or ONNX Runtime; `put` is setattr, or monkeypatch's."""
    put(llama, "LlamaEngine", HashEngine)
    put(onnx, "OrtCodec", PatternCodec)
    put(header, "read_model", _read_model)
    put(os, "fsync", lambda _handle: None)  # no test pulls the plug


@contextmanager
def slowed(file: Path, seconds: float = 0.1) -> Iterator[None]:
    """Have each step take so long where `PACE` names the file, so that no song ends unseen."""
    file.write_text(str(seconds))
    try:
        yield
    finally:
        file.unlink()


def installed() -> bool:
    """Whether this process has them."""
    return llama.LlamaEngine is not LlamaEngine


def main() -> None:
    """Run the command line of this process with them."""
    from yuegguf.__main__ import main as program

    install(setattr)
    program()


def _pause() -> None:
    if file := os.environ.get(PACE):
        with suppress(OSError, ValueError):  # there is none now, or it is just being written
            time.sleep(float(Path(file).read_text()))


def _version(path: Path) -> tuple[int, int]:
    if not path.is_file():
        return 0, 0
    return path.stat().st_size, path.stat().st_mtime_ns


@lru_cache(32)
def _model(path: Path, size: int, changed: int) -> CheckedModel:
    return read_model(path)


def _read_model(path: Path) -> CheckedModel:
    """The header of the bundled models, which nothing changes, is read once."""
    return _model(path, 0, 0) if path.parent == BUNDLED else read_model(path)


def _next(state: int, token: int) -> int:
    return (state * 0x9E3779B97F4A7C15 + token + 1) & MASK


def _codes(wave: NDArray[np.float32], bins: int) -> NDArray[np.int64]:
    """Codes [8, T] by the loudest sample of each frame."""
    frames = (len(wave) + 240) // CODEC_HOP
    padded = np.pad(wave, (0, max(0, frames * CODEC_HOP - len(wave))))[: frames * CODEC_HOP]
    loudest = np.abs(padded.reshape(frames, CODEC_HOP)).max(axis=1, initial=0.0)
    levels = (np.minimum(loudest, 1.0) * 4096).astype(np.int64)
    return (levels * np.arange(1, 17, 2)[:, None] + 131 * np.arange(8)[:, None]) % bins


def _frames(codes: NDArray[np.int64], width: int, scale: float) -> NDArray[np.float32]:
    """[T, width]: a sum of one pattern a codebook, the later the softer."""
    tables = _tables(width)
    out = np.zeros((codes.shape[1], width), np.float32)
    for book, row in enumerate(codes):
        out += np.float32(scale * 0.5**book) * tables[book, row % PATTERNS]
    return out


@lru_cache(4)
def _tables(width: int) -> NDArray[np.float32]:
    return np.random.default_rng(width).uniform(-1, 1, (8, PATTERNS, width)).astype(np.float32)


if __name__ == "__main__":
    main()
