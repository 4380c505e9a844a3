"""Strict reader of .npy: no pickles, and no more memory than the file has bytes."""

from __future__ import annotations

import math
import tokenize
from io import BytesIO
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

NUMBER_KINDS = "biuf"
"""numpy kinds that are read: booleans, signed and unsigned integers, floats."""
MAX_HEADER_BYTES = 10_000
"""Most bytes of a header; ours have about a hundred."""
MAX_DIMENSIONS = 8
HEADER_ERRORS = (
    SyntaxError,
    tokenize.TokenError,
    RecursionError,
    MemoryError,
    TypeError,
    OverflowError,
    KeyError,
)
"""Errors of Python's parser, besides ValueError, for text that is nested too deep or no literal."""
READ_BYTES = 1 << 22
"""Bytes read at once."""


def read_npy(file: IO[bytes], size: int) -> NDArray[Any]:
    """Array of an .npy of `size` bytes, read from the file's current position. Raises ValueError, OSError."""
    shape, fortran, kind, start = _header(file)
    count = math.prod(shape) * kind.itemsize
    if start + count != size:
        raise ValueError(f"its header announces {count} bytes of numbers, {size - start} are there")
    values = np.frombuffer(_read_exactly(file, count), kind)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether in Fortran order, dtype, and bytes of the header. Raises ValueError."""
    magic = _read_exactly(file, np.lib.format.MAGIC_LEN)
    version = np.lib.format.read_magic(BytesIO(magic))
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"its format {version} is not known")
    width = 2 if version == (1, 0) else 4
    length = int.from_bytes(prefix := _read_exactly(file, width), "little")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header has {length} bytes")
    whole = BytesIO(prefix + _read_exactly(file, length))
    parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, kind = parse(whole, max_header_size=MAX_HEADER_BYTES)
    except HEADER_ERRORS as error:
        raise ValueError("its header is not readable") from error
    if kind.kind not in NUMBER_KINDS or len(shape) > MAX_DIMENSIONS or any(n < 0 for n in shape):
        raise ValueError(f"it holds {str(kind)[:40]} of shape {str(shape)[:40]}, not numbers")
    return shape, fortran, kind, len(magic) + width + length


def _read_exactly(file: IO[bytes], count: int) -> bytearray:
    """Exactly `count` bytes, read in blocks so that memory grows only with the data. Raises ValueError."""
    data = bytearray()
    while len(data) < count:
        block = file.read(min(READ_BYTES, count - len(data)))
        if not block:
            raise ValueError("it is cut off")
        data += block
    return data
