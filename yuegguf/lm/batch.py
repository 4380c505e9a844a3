"""The batch that llama.cpp computes in a step: ids, positions and rows in memory that stays."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from yuegguf.lm.protocol import SequenceInput


class Batch:
    """llama_batch over arrays of our own, filled without allocation."""

    def __init__(self, struct: Any, capacity: int) -> None:
        """`struct` is an empty llama_batch, which then points into this object."""
        self.token = np.zeros(capacity, np.int32)
        self.pos = np.zeros(capacity, np.int32)
        self.count = np.ones(capacity, np.int32)
        self.row = np.zeros(capacity, np.int32)
        self.want = np.zeros(capacity, np.int8)
        self.pointers = self.row.ctypes.data + np.arange(capacity, dtype=np.uintp) * self.row.itemsize
        self.struct = struct
        for name, array in (
            ("token", self.token),
            ("pos", self.pos),
            ("n_seq_id", self.count),
            ("seq_id", self.pointers),
            ("logits", self.want),
        ):
            kind = dict(struct._fields_)[name]
            setattr(self.struct, name, ctypes.cast(ctypes.c_void_p(array.ctypes.data), kind))

    @property
    def size(self) -> int:
        """Ids in it."""
        return int(self.struct.n_tokens)

    def fill(self, rows: Sequence[SequenceInput], used: Sequence[int]) -> int:
        """Lay the rows out one after the other; returns how many logits rows will come back."""
        end = wanted = 0
        for row in rows:
            start, end = end, end + len(row.ids)
            first = used[row.row]
            if end == start + 1:  # most are, and scalars are quicker
                self.token[start], self.pos[start], self.row[start] = row.ids[0], first, row.row
            else:
                self.token[start:end], self.row[start:end] = row.ids, row.row
                self.pos[start:end] = np.arange(first, first + len(row.ids))
            self.want[start:end] = 0
            self.want[end - row.wanted : end] = 1
            wanted += row.wanted
        self.struct.n_tokens = end
        return wanted
