"""Read a pickle as data: a stack machine that can build containers and tensor records, nothing else.

Python's own unpicklers resolve names to objects and call them. Here a name stays a name: `Global` is
two strings, calling one that is not in the table below gives an inert `Opaque`, and nothing is ever
imported, called or given attributes. Opcodes are decoded by the standard library's `pickletools`,
which reads arguments and runs nothing. What a checkpoint keeps beside its weights (optimisers,
schedulers, hooks, whole modules) therefore becomes an inert `Opaque`. torch's own weights_only reader works
the same way.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_PICKLE_BYTES = 16 << 20
"""Maximum bytes of one pickle; that of a checkpoint of several thousand tensors is below 1 MiB."""

_SCALARS = (str, bytes, int, float, type(None))


@dataclass(frozen=True)
class Global:
    """The name of a class or function; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        text = f"{self.module}.{self.name}"
        return text if text.isprintable() else ascii(text)  # it comes from the file and goes to a terminal


@dataclass(frozen=True, eq=False)
class Opaque:
    """Placeholder of an object that is not read."""

    what: str
    """Global that would have built it."""


@dataclass(frozen=True)
class Storage:
    """A block of numbers outside the pickle."""

    kind: str
    """Name of torch's storage class: FloatStorage, HalfStorage, …"""
    key: str
    numel: int


@dataclass(frozen=True)
class TensorRef:
    """A strided view of a storage; offset and strides in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Pickle:
    """Content of one pickle."""

    value: Any
    size: int
    """Length in bytes."""
    storages: dict[str, Storage]
    """Every storage by key, those of opaque objects included."""


def read_pickle(data: bytes) -> Pickle:
    """The first pickle in `data`.

    Raises ValueError, IndexError, KeyError or TypeError for bytes that are not a pickle.
    """
    stream = io.BytesIO(data)
    machine = _Machine()
    value = machine.run(stream)
    return Pickle(value, stream.tell(), machine.storages)


def _rebuild_tensor(args: tuple[Any, ...]) -> Any:
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)."""
    storage, offset, shape, stride = args[:4]
    if isinstance(storage, Opaque):
        return storage
    whole = isinstance(shape, tuple) and isinstance(stride, tuple) and isinstance(storage, Storage)
    if not whole or not all(isinstance(n, int) for n in (offset, *shape, *stride)):
        return Opaque("torch._utils._rebuild_tensor_v2 with arguments of another kind")
    return TensorRef(storage, offset, shape, stride)


def _ordered_dict(args: tuple[Any, ...]) -> Any:
    """collections.OrderedDict(), which later opcodes fill; arguments would be copied, and copies multiply."""
    return Opaque("collections.OrderedDict with arguments") if args else {}


def _size(args: tuple[Any, ...]) -> Any:
    """torch.Size((…))."""
    return args[0] if args and isinstance(args[0], tuple) else Opaque("torch.Size of something else")


_CALLS: dict[Global, Callable[[tuple[Any, ...]], Any]] = {
    Global("collections", "OrderedDict"): _ordered_dict,
    Global("torch", "Size"): _size,
    Global("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    Global("torch._utils", "_rebuild_parameter"): lambda args: args[0],
}


def _call(function: Any, args: Any) -> Any:
    """The record that a call of an allowed global gives; anything else is opaque."""
    if isinstance(function, Opaque):
        return function
    if not isinstance(function, Global) or not isinstance(args, tuple):
        raise ValueError("a pickle calls something that is not a global")
    known = _CALLS.get(function)
    return known(args) if known else Opaque(str(function))


def _key(value: Any) -> Any:
    """Dictionary keys are scalars; hashing a deeply nested tuple could exhaust the C stack."""
    return value if isinstance(value, _SCALARS) else Opaque("a key that is not a scalar")


def _persistent(pid: Any) -> Any:
    """torch's storage record: ("storage", class, key, device, numel[, view])."""
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
        return Opaque("a persistent object that is not a storage")
    kind, key, numel, view = pid[1], pid[2], pid[4], pid[5:]
    if not isinstance(kind, Global) or not isinstance(key, str) or not isinstance(numel, int):
        return Opaque("a storage with arguments of another kind")
    if kind.module != "torch" or any(part is not None for part in view):
        return Opaque(str(kind))
    return Storage(kind.name, key, numel)


class _Machine:
    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self, stream: io.BytesIO) -> Any:
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name
            if name == "STOP":
                return self._stack.pop()
            if name in _LITERALS:
                self._stack.append(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name]())
            elif name not in _IGNORED:
                _ACTIONS[name](self, argument)
        raise ValueError("a pickle without an end")

    def pop(self, _: Any = None) -> Any:
        if not self._stack and self._marked:
            return self.pop_mark()
        return self._stack.pop()

    def mark(self, _: Any = None) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def pop_mark(self, _: Any = None) -> list[Any]:
        items = self._stack
        self._stack = self._marked.pop()
        return items

    def dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def put(self, index: Any) -> None:
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def get(self, index: Any) -> None:
        self._stack.append(self._memo[index])

    def collect(self, kind: Callable[[list[Any]], Any]) -> None:
        items = self.pop_mark()
        self._stack.append(kind(items))

    def tuple_of(self, count: int) -> None:
        items = tuple(self._stack.pop() for _ in range(count))
        self._stack.append(items[::-1])

    def extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise ValueError("a pickle appends to something that is not a list")

    def set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, dict):
            target.update((_key(k), v) for k, v in zip(items[::2], items[1::2], strict=True))
        elif not isinstance(target, Opaque):
            raise ValueError("a pickle sets items of something that is not a dictionary")

    def global_name(self, argument: Any) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(Global(module, name))

    def stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("a pickle names a global by something that is not text")
        self._stack.append(Global(module, name))

    def reduce(self, _: Any) -> None:
        args = self._stack.pop()
        self._stack.append(_call(self._stack.pop(), args))

    def new_with_keywords(self, _: Any) -> None:
        self._stack.pop()
        self.reduce(None)

    def instance(self, argument: Any) -> None:
        args = tuple(self.pop_mark())
        self.global_name(argument)
        self._stack.append(_call(self._stack.pop(), args))

    def object(self, _: Any) -> None:
        function, *args = self.pop_mark()
        self._stack.append(_call(function, tuple(args)))

    def build(self, _: Any) -> None:
        if len(self._stack) < 2:
            raise ValueError("a pickle gives attributes to nothing")
        self._stack.pop()  # a state dict's _metadata, or of an object that is not read

    def persistent(self, argument: Any) -> None:
        value = _persistent(self._stack.pop() if argument is None else argument)
        if isinstance(value, Storage):
            self.storages[value.key] = value
        self._stack.append(value)

    def extension(self, argument: Any) -> None:
        self._stack.append(Opaque(f"extension code {argument}"))


def _dict_of(items: list[Any]) -> dict[Any, Any]:
    return {_key(k): v for k, v in zip(items[::2], items[1::2], strict=True)}


_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_TEXTS = (
    "STRING",
    "BINSTRING",
    "SHORT_BINSTRING",
    "UNICODE",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
)
_LITERALS = frozenset((*_NUMBERS, *_TEXTS, "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"))
_IGNORED = frozenset(("PROTO", "FRAME"))
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,  # order and duplicates do not matter for what is never read
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_ACTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.dup,
    "LIST": lambda m, _: m.collect(list),
    "TUPLE": lambda m, _: m.collect(tuple),
    "FROZENSET": lambda m, _: m.collect(tuple),
    "DICT": lambda m, _: m.collect(_dict_of),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "APPEND": lambda m, _: m.extend([m.pop()]),
    "APPENDS": lambda m, _: m.extend(m.pop_mark()),
    "ADDITEMS": lambda m, _: m.extend(m.pop_mark()),
    "SETITEM": lambda m, _: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.pop_mark()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    **dict.fromkeys(("GLOBAL",), _Machine.global_name),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _Machine.extension),
    **dict.fromkeys(("PERSID", "BINPERSID"), _Machine.persistent),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine.reduce),
    "STACK_GLOBAL": _Machine.stack_global,
    "NEWOBJ_EX": _Machine.new_with_keywords,
    "INST": _Machine.instance,
    "OBJ": _Machine.object,
    "BUILD": _Machine.build,
}
