"""llama.cpp's batch of one decode call, in memory that is allocated once."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from yuegguf.lm.protocol import SequenceInput


class Batch:
    """llama_batch over numpy arrays, filled without allocation."""

    def __init__(self, struct: Any, capacity: int) -> None:
        """`struct` is an empty llama_batch, which then points into this object; `capacity` is in ids."""
        self.token = np.zeros(capacity, np.int32)
        self.pos = np.zeros(capacity, np.int32)
        self.n_seq = np.ones(capacity, np.int32)
        self.seq = np.zeros(capacity, np.int32)
        self.logits = np.zeros(capacity, np.int8)
        self.pointers = self.seq.ctypes.data + np.arange(capacity, dtype=np.uintp) * self.seq.itemsize
        self.struct = struct
        for name, array in (
            ("token", self.token),
            ("pos", self.pos),
            ("n_seq_id", self.n_seq),
            ("seq_id", self.pointers),
            ("logits", self.logits),
        ):
            kind = dict(struct._fields_)[name]
            setattr(self.struct, name, ctypes.cast(ctypes.c_void_p(array.ctypes.data), kind))

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
            if end == start + 1:  # most are, and scalars are faster
                self.token[start], self.pos[start], self.seq[start] = each.ids[0], first, each.seq
                self.logits[start] = each.n_logits
            else:
                self.token[start:end], self.seq[start:end] = each.ids, each.seq
                self.pos[start:end] = np.arange(first, first + len(each.ids))
                self.logits[start:end] = 0
                self.logits[end - each.n_logits : end] = 1
            n_logits += each.n_logits
        self.struct.n_tokens = end
        return n_logits
