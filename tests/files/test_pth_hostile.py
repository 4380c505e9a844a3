"""Hostile checkpoints: nothing in a pickle runs, and no tensor leaves its storage."""

from __future__ import annotations

import builtins
import collections
import functools
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pth_files import FORMATS, crafted, save, tensor_pickle

from yuegguf.errors import DamagedFile
from yuegguf.files.pth import read_state_dict


class Evil:
    """Pickles to a call of the given function."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        function, *args = self.call
        return function, tuple(args)


class WithState(Evil):
    """Pickles to an object with hostile state: BUILD would run it."""

    def __reduce__(self) -> Any:
        return collections.OrderedDict, (), {"__setstate__": Evil(*self.call), "x": Evil(*self.call)}


def attacks(marker: Path) -> dict[str, Any]:
    touch = f"open({str(marker)!r}, 'w').close()"
    return {
        "system": Evil(os.system, f"touch {marker}"),
        "eval": Evil(builtins.eval, touch),
        "exec": Evil(builtins.exec, touch),
        "open": Evil(builtins.open, str(marker), "w"),
        "popen": Evil(subprocess.Popen, ["touch", str(marker)]),
        "partial": Evil(functools.partial(os.system, f"touch {marker}")),
        "getattr": Evil(builtins.getattr, Evil(builtins.__import__, "os"), "system"),
        "torch.load": Evil(torch.load, str(marker)),
    }


@FORMATS
@pytest.mark.parametrize("name", sorted(attacks(Path("x"))))
def test_hostile_pickles_never_run(tmp_path: Path, zipped: bool, name: str) -> None:
    marker = tmp_path / "executed"
    attack = attacks(marker)[name]
    weights = {"good": torch.ones(2), "evil": attack, "state": WithState(*attack.call)}
    hooked = torch.ones(2)
    content = {"other": [attack], "codec_model": weights, "direct": attack, "hooked": {"x": hooked}}
    path = save(tmp_path / "a.pth", content, zipped)
    state = read_state_dict(path, "codec_model")
    assert np.array_equal(state["good"], [1, 1])
    with pytest.raises(DamagedFile, match=r"evil is made by .*, which is not read"):
        state["evil"]
    with pytest.raises(DamagedFile, match="state is not a tensor"):
        state["state"]
    with pytest.raises(DamagedFile, match=r"'direct' is made by .*, which is not read"):
        read_state_dict(path, "direct")
    assert not marker.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"(S'touch MARK'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch MARK'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0atouch MARK\x85R.",  # STACK_GLOBAL
        b"cos\nsystem\n(S'touch MARK'\ntR.",
        b"\x80\x02cos\nsystem\nX\x0a\x00\x00\x00touch MARK\x85\x81.",  # NEWOBJ
        b"ctorch._utils\n_rebuild_tensor_v2\n(dS'__code__'\ncos\nsystem\nsb.",  # BUILD on an allowed name
        b"ccollections\nOrderedDict\n)R(dS'__class__'\ncos\nsystem\nsb.",
        b"\x80\x02\x82\x01.",  # extension registry
    ],
)
def test_hand_written_pickles_never_run(tmp_path: Path, code: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = crafted(tmp_path / "a.pth", code)
    try:
        state = read_state_dict(path)
    except DamagedFile:
        pass
    else:
        assert not list(state)  # the empty OrderedDict, its class untouched
    assert not (tmp_path / "MARK").exists()


@pytest.mark.parametrize(
    "code",
    [
        b"",
        b".",
        b"N",
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",  # a deeply nested list
        b"\x80\x02Nr\xff\xff\xff\xff.",  # a memo index of four thousand million
        b"\x80\x02\x8b\xff\xff\xff\x7f.",  # an integer of two thousand million bytes
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",  # text longer than memory
        b"\x80\x02t.",
        b"\x80\x02h\x05.",
        b"\x80\x02K\x01K\x02R.",
        b"\x80\x02]K\x01K\x02s.",
        b"\x80\x05\x97.",
    ],
)
def test_malformed_pickles_are_damaged_files(tmp_path: Path, code: bytes) -> None:
    with pytest.raises(DamagedFile):
        read_state_dict(crafted(tmp_path / "a.pth", code))["x"]


def test_a_key_of_deeply_nested_tuples_is_not_hashed(tmp_path: Path) -> None:
    code = b"\x80\x02}K\x01" + b"\x85" * 300_000 + b"Ns."
    assert not list(read_state_dict(crafted(tmp_path / "a.pth", code)))


@pytest.mark.parametrize(
    ("numel", "offset", "shape", "stride"),
    [
        (10, 0, (11,), (1,)),
        (10, 5, (6,), (1,)),
        (10, -1, (2,), (1,)),
        (10, 0, (2, 2), (9, 1)),
        (10, 0, (-2,), (1,)),
        (10, 9, (3,), (-1,)),
        (10, 0, (1 << 40,), (0,)),  # a terabyte from four bytes
        (10, 0, (0, 1 << 70), (1, 1)),
        (1 << 60, 0, (1 << 59,), (1,)),
        (11, 0, (11,), (1,)),  # the archive holds ten
        (10, 0, (2, 3), (1,)),
        (10, 0, (1,) * 80, (1,) * 80),
    ],
)
def test_tensors_outside_their_storage_are_refused(
    tmp_path: Path, numel: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    path = crafted(tmp_path / "a.pth", tensor_pickle(numel, offset, shape, stride))
    with pytest.raises(DamagedFile, match="tensor x cannot be read"):
        read_state_dict(path)["x"]


def test_a_crafted_tensor_within_its_storage_is_read(tmp_path: Path) -> None:
    numbers = np.arange(10, dtype=np.float32)
    path = crafted(tmp_path / "a.pth", tensor_pickle(10, 1, (2, 3), (4, 1)), numbers.tobytes())
    np.testing.assert_array_equal(read_state_dict(path)["x"], [[1, 2, 3], [5, 6, 7]])
