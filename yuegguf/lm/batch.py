"""llama.cpp's batch of one decode call, in memory that is allocated once."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import repeat
from typing import Any

from yuegguf.lm.protocol import SequenceInput


class Batch:
    """llama_batch over arrays of ctypes, filled without allocation; numpy is slower with single values."""

    def __init__(self, struct: Any, capacity: int) -> None:
        """`struct` is an empty llama_batch, which then points into this object; `capacity` is in ids."""
        integers = ctypes.c_int32 * capacity
        self.token, self.pos, self.seq = integers(), integers(), integers()
        self.n_seq = integers(*[1] * capacity)
        self.logits = (ctypes.c_int8 * capacity)()
        base, size = ctypes.addressof(self.seq), ctypes.sizeof(ctypes.c_int32)
        self.pointers = (ctypes.c_void_p * capacity)(*[base + size * i for i in range(capacity)])
        self.struct = struct
        for name, array in (
            ("token", self.token),
            ("pos", self.pos),
            ("n_seq_id", self.n_seq),
            ("seq_id", self.pointers),
            ("logits", self.logits),
        ):
            kind = dict(struct._fields_)[name]
            setattr(self.struct, name, ctypes.cast(array, kind))

    @property
    def size(self) -> int:
        """Number of ids."""
        return int(self.struct.n_tokens)

    def fill(self, inputs: Sequence[SequenceInput], used: Sequence[int]) -> int:
        """Lay out the inputs one after the other; returns the number of logits rows that will come back.

        `used` holds the number of ids in each sequence's cache.
        """
        end = n_logits = 0
        for each in inputs:
            start, end = end, end + len(each.ids)
            first = used[each.seq]
            if end == start + 1:  # most are
                self.token[start], self.pos[start], self.seq[start] = each.ids[0], first, each.seq
                self.logits[start] = each.n_logits
            else:
                count = end - start
                self.token[start:end] = [*each.ids]
                self.pos[start:end] = [*range(first, first + count)]
                self.seq[start:end] = [*repeat(each.seq, count)]
                self.logits[start:end] = [*repeat(0, count - each.n_logits), *repeat(1, each.n_logits)]
            n_logits += each.n_logits
        self.struct.n_tokens = end
        return n_logits


def fillers_of(
    inputs: Sequence[SequenceInput], used: Sequence[int], n_ctx: int, n_batch: int
) -> list[SequenceInput]:
    """An id for each sequence without one between the first and the last, where that is cheaper.

    llama.cpp computes sequences together only if their numbers follow each other: each gap would read
    all weights once more.
    """
    seqs = [each.seq for each in inputs]
    span = range(seqs[0], seqs[-1] + 1)
    if len(span) == len(seqs) or len(span) > 2 * len(seqs) or seqs != sorted(seqs):
        return []
    gaps = [seq for seq in span if seq not in seqs]
    ids = sum(len(each.ids) for each in inputs) + len(gaps)
    if ids > n_batch or any(used[seq] >= n_ctx for seq in gaps):
        return []
    return [SequenceInput(seq, [0], n_logits=0) for seq in gaps]
