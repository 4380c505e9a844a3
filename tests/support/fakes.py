"""Fakes of the two engines: deterministic, tiny, and of exact arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec.protocol import Track
from yuegguf.errors import EngineError
from yuegguf.lm.protocol import SequenceInput

TEXT = ("<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁[", "▁")
SPECIALS = ("<EOD>", "<SOA>", "<EOA>", "<stage_1>", "<xcodec>", "<stage_2>")
PIECES = (*TEXT, *SPECIALS, *(f"<xcodec/{k}/{c}>" for k in range(8) for c in range(1024)))
STAGE1 = PIECES[: len(TEXT) + len(SPECIALS) + 1024]
"""Pieces of a trimmed stage 1."""
PLACES = 1 << 16
NOISE = np.random.default_rng(1).normal(0, 3, PLACES + len(PIECES)).astype(np.float32)


class FakeEngine:
    """Logits are a hash of every id that the sequence was fed: any difference in them shows."""

    pieces: Sequence[str] = PIECES
    metadata: Mapping[str, str] = {"yuegguf.role": "stage1"}
    busy = 0.0
    n_batch = 1 << 14

    def __init__(self, n_ctx: int = 4096, n_rows: int = 2) -> None:
        self.n_ctx, self.n_rows = n_ctx, n_rows
        self.fed: list[list[int]] = [[] for _ in range(n_rows)]
        self.calls: list[list[SequenceInput]] = []
        self.closed = False

    def decode(self, inputs: Sequence[SequenceInput]) -> NDArray[np.float32]:
        self.calls.append([SequenceInput(each.seq, list(each.ids), each.n_logits) for each in inputs])
        logits = []
        for each in inputs:
            fed = self.fed[each.seq]
            fed += each.ids
            if len(fed) > self.n_ctx:
                raise EngineError("context full")
            logits += [self._logits(fed[: len(fed) - later]) for later in range(each.n_logits - 1, -1, -1)]
        return np.stack(logits) if logits else np.empty((0, 0), np.float32)

    def _logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        start = hash(tuple(ids)) % PLACES
        return NOISE[start : start + len(self.pieces)].copy()

    def forget(self, seq: int, keep: int) -> None:
        del self.fed[seq][keep:]

    def copy(self, src: int, dst: int) -> None:
        self.fed[dst] = list(self.fed[src])

    def save(self, seq: int, path: Path) -> None:
        np.save(path.open("wb"), np.array(self.fed[seq], np.int64))

    def load(self, seq: int, path: Path) -> None:
        self.fed[seq] = np.load(path).tolist()

    def resize(self, n_rows: int, n_ctx: int) -> None:
        if max(map(len, self.fed[:n_rows])) > n_ctx:
            raise EngineError("a sequence is longer")
        self.fed = [*self.fed, *([] for _ in range(n_rows))][:n_rows]
        self.n_rows, self.n_ctx = n_rows, n_ctx

    def close(self) -> None:
        self.closed = True


class Stage1Engine(FakeEngine):
    """Has the ids of stage 1 alone, as every logit takes time."""

    pieces = STAGE1


class MemoryJournal:
    """Journal in a dict."""

    def __init__(self, sections: Sequence[Sequence[int]] = ()) -> None:
        self.sections = {i: list(codes) for i, codes in enumerate(sections)}
        self.attempts: dict[int, int] = {}

    def codes(self, section: int) -> Sequence[int]:
        return self.sections.get(section, [])

    def append(self, section: int, code: int) -> None:
        self.sections.setdefault(section, []).append(code)

    def restart(self, section: int, keep: int) -> None:
        del self.sections[section][keep:]
        self.attempts[section] = self.attempt(section) + 1

    def attempt(self, section: int) -> int:
        return self.attempts.get(section, 0)


class FakeCodec:
    """Every output sample is a fixed sum over frames -reach … +reach, zeros beyond the ends."""

    def __init__(self) -> None:
        random = np.random.default_rng(5)
        self.value = random.standard_normal((8, 1024))
        self.taps = {reach: random.standard_normal((2 * reach + 1, 882)) * 0.02 for reach in (10, 29)}
        self.longest = 0

    def _wave(self, codes: np.ndarray, reach: int, hop: int) -> np.ndarray:
        self.longest = max(self.longest, codes.shape[1])
        value = self.value[np.arange(len(codes))[:, None], codes].sum(axis=0)
        near = np.lib.stride_tricks.sliding_window_view(np.pad(value, reach), 2 * reach + 1)
        return (near @ self.taps[reach][:, :hop]).astype(np.float32).reshape(-1)

    def encode(self, wav16k: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return self._wave(codes, 10, 320)

    def upsample(self, codes: np.ndarray, track: Track) -> np.ndarray:
        return self._wave(codes, 29, 882) * np.float32(1 if track == "vocal" else -1)

    def close(self) -> None: ...
