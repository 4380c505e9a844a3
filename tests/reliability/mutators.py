"""Changes of files that somebody else may have written: bytes, JSON, text, archives, logs, folders."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from helpers import log_of
from tiny_gguf import EXTREMES, REALS

from yuegguf.files.typed_json import CHECKSUM
from yuegguf.song.token_log import HEADER

CANARY = "@CANARY@"
"""Stands for the absolute path of a file that nothing may change."""
DEEP = "@DEEP@"
"""Stands for brackets nested so deep that no JSON writer could write them."""


@dataclass(frozen=True)
class Link:
    """A symbolic link to a name in the watched folder."""

    target: str


FOLDER = None
"""Stands for an empty folder in the place of a file."""
Content = dict[str, bytes | Link | None]
"""Relative name → what lies there."""
Mutator = Callable[[bytes, random.Random, Sequence[bytes]], bytes]
"""Bytes, a source of chance, and other valid bytes of the kind → changed bytes."""

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, -0.0, 2**31 - 1, -(2**31), 2**32, 2**53 + 1, 2**63, 10**400),
    *(1e308, -1e-320, float("nan"), float("inf"), "", "x", "0", "\0", "\ud800", "é\u2028", "\x1b[2J", "a\nb"),
    *("..", "../mine/canary", "../../mine/deep", "song.json", CANARY, "x" * 300, "y" * 100_000, DEEP),
    *([], {}, [None], [[]], {"": {}}, [-1] * 3, ["mix.wav", CANARY], {"file": CANARY, "bytes": 1}),
)
TOKENS = (
    *(b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", "\u2028".encode(), b"\r\t", b"%n%s", b"\x1b[2J"),
    *(b"[" * 5000, b"{" * 5000, b"- " * 3000, b"x" * 50_000, b"[verse]\n", b"[", b"]", b"(", b"1-", b",,"),
    *(b"[99:99.99]", b"[00:00.00]", b"[9999999999999999999:00]", b"#length 9999999999", b"*a", b"&a ", b"? "),
    *(
        b"!!python/name:os.system ",
        b"<<: ",
        b"-1",
        b"1e999",
        b"99999999999999999999",
        b"nan",
        b"---\n",
        b": ",
    ),
    *(b": ", "\u0663".encode(), b"../mine/canary", CANARY.encode(), b"<EOA>"),
)
ENTRIES = (
    *("", "-1", "0", "1023", "1024", "007", "1e3", "end", "again 0", "again 1", "again 999999", "again -1"),
    *("section 0", "section 1", "section 99999999", "\u0663", "x" * 5000, "9" * 5000, "\0"),
)


def binary(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """One to four changes of bytes, numbers or stretches; most near the beginning, where headers are."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        size = len(changed)
        at = chance.randrange(min(size, chance.choice((16, 256, size))) or 1) if size else 0
        length = chance.choice((1, 2, 4, 8, chance.randrange(1, 200)))
        kind = chance.randrange(9)
        if kind == 0 and size:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1 and size:
            changed[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        elif kind in (2, 3):
            number = _number(chance)
            changed[at : at + len(number)] = number
        elif kind == 4:
            changed[at:at] = chance.randbytes(length)
        elif kind == 5:
            del changed[at : at + length]
        elif kind == 6:
            changed[at:at] = changed[at : at + length] * chance.choice((1, 2, 50))
        elif kind == 7:
            other = chance.choice(others) if others else bytes(changed)
            changed[at:] = other[chance.randrange(len(other) + 1) :]
        else:
            del changed[at:]
    return bytes(changed)


def _number(chance: random.Random) -> bytes:
    order = chance.choice("<<<>")
    if chance.random() < 0.3:
        return struct.pack(order + chance.choice("fd"), chance.choice(REALS))
    form, bits = chance.choice((("H", 16), ("I", 32), ("I", 32), ("Q", 64), ("Q", 64)))
    return struct.pack(order + form, chance.choice((*EXTREMES, -1)) & (1 << bits) - 1)


def as_json(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """One to three values or keys of a JSON file changed, its own checksum left out; other text by lines."""
    try:
        found = json.loads(data)
    except ValueError:
        return as_text(data, chance, others)
    if isinstance(found, dict):
        found.pop(CHECKSUM, None)
    whole = [found]
    for _ in range(chance.choice((1, 1, 2, 3))):
        holder, key = chance.choice(list(_places(whole)))
        kind = chance.randrange(6)
        if kind == 0 and holder is not whole:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[str(chance.choice(VALUES))[:300]] = holder.pop(key)
        elif kind == 2 and isinstance(holder, list) and holder is not whole:
            holder.extend([holder[key]] * chance.choice((1, 3, 1000)))
        elif kind == 3:
            other, there = chance.choice(list(_places(whole)))
            holder[key] = json.loads(json.dumps(other[there]))
        else:
            holder[key] = json.loads(json.dumps(chance.choice(VALUES)))
    text = json.dumps(whole[0]).encode()
    if chance.random() < 0.1:  # a key that is there twice
        text = text.replace(b"{", b'{"format": 1, "name": "x", ', 1)
    return text.replace(f'"{DEEP}"'.encode(), b"[" * 50_000 + b"]" * 50_000)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key of a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def as_text(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """One to three lines or tokens changed."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        lines = data.split(b"\n")
        at, kind = chance.randrange(len(lines)), chance.randrange(7)
        if kind == 0:
            lines[at:at] = [lines[at]] * chance.choice((1, 1, 2000))
        elif kind == 1:
            del lines[at]
        elif kind == 2:
            other = chance.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 3:
            lines[at] = chance.choice(TOKENS)
        else:
            place = chance.randrange(len(lines[at]) + 1)
            cut = place + chance.choice((0, 0, 1, 5))
            lines[at] = lines[at][:place] + chance.choice(TOKENS) + lines[at][cut:]
        data = b"\n".join(lines)
    return data if chance.random() < 0.8 else binary(data, chance, others)


def zipped(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """A member of an archive changed, and its sums made right again."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = chance.choice(list(members))
    inner = as_json if members[name][128:129] == b"{" else binary
    if inner is as_json:  # JSON in an array of bytes: the header has 128 bytes and counts the others
        members[name] = _bytes_array(as_json(members[name][128:], chance, ()))
    elif chance.random() < 0.1:
        members[chance.choice(("../mine/canary", "/x", "codes.npy", "a" * 5000))] = members.pop(name)
    else:
        change = chance.choice((binary, binary, as_text))
        members[name] = change(members[name], chance, list(members.values()))
    out, method = io.BytesIO(), chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(out, "w", method if chance.random() < 0.2 else zipfile.ZIP_STORED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return out.getvalue()


def _bytes_array(content: bytes) -> bytes:
    import numpy as np

    out = io.BytesIO()
    np.save(out, np.frombuffer(content, np.uint8))
    return out.getvalue()


def logged(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """Lines of a token log changed, and their sums made right again."""
    entries = [line.rpartition(b" ")[0].decode() for line in data[len(HEADER) :].splitlines()]
    for _ in range(chance.choice((1, 1, 2, 5))):
        at, kind = chance.randrange(len(entries) + 1), chance.randrange(4)
        if kind == 0:
            entries.insert(at, chance.choice(ENTRIES))
        elif kind == 1:
            del entries[at : at + 1]
        elif kind == 2:
            entries[at : at + 1] = [chance.choice(ENTRIES)]
        else:
            entries[at:at] = entries[: chance.choice((1, 10, 200))]
    return log_of(*entries)


def reshaped(content: Content, chance: random.Random) -> None:
    """One name of a folder deleted, swapped, renamed, or made a folder or a link out of it; in place."""
    names = sorted(content)
    name, other, kind = chance.choice(names), chance.choice(names), chance.randrange(5)
    if kind == 0:
        del content[name]
    elif kind == 1:
        content[name], content[other] = content[other], content[name]
    elif kind == 2:
        content[name] = Link(chance.choice(("canary", "deep", "nowhere", "../input", "deep/row0.bin")))
    elif kind == 3:
        content[name] = FOLDER
    else:
        folder, _, last = name.rpartition("/")
        fresh = chance.choice((last.upper(), "x" * 200, "take-99", "stage2.npz", "\x1b[2J", "-rf"))
        content[f"{folder}/{fresh}".lstrip("/")] = content.pop(name)


def by_suffix(name: str) -> tuple[Mutator, ...]:
    """The mutators of a file in a folder, by its name."""
    table = {".json": (as_json, as_json, binary), ".npz": (zipped, zipped, binary), ".log": (logged, binary)}
    table |= {".txt": (as_text,), ".lrc": (as_text,), ".yaml": (as_text, as_json)}
    return table.get(name[name.rfind(".") :], (binary,))
