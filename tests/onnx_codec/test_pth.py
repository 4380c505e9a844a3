"""The checkpoint reader: the same numbers as torch.load, and nothing in a file is ever run."""

from __future__ import annotations

import argparse
import builtins
import collections
import functools
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from yuegguf_onnx_codec.pth import read_state_dict

from yuegguf.errors import DamagedFile, ModelNotFound

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(path: Path, content: Any, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    base = torch.randn(6, 7)
    kinds = (torch.float64, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    return {
        "whole": base,
        "transposed": base.t(),
        "row": base[2],
        "strided": base[1::2, ::3],
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "bool": torch.tensor([True, False, True]),
        "bfloat16": torch.tensor([1.0, -2.5, 3.14159, float("inf"), 1e-40]).bfloat16(),
        **{str(kind): (torch.randn(5) * 50).abs().to(kind) for kind in kinds},
    }


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def crafted(path: Path, pickled: bytes, storage: bytes = bytes(40)) -> Path:
    """A zip checkpoint with a hand-written pickle and one storage, key 0."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", storage)
    return path


def tensor_pickle(numel: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A pickle of {"x": tensor} whose numbers may lie."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if obj == "STORAGE" else None

    class Lie:
        def __reduce__(self) -> Any:
            args = ("STORAGE", offset, shape, stride, False, collections.OrderedDict())
            return torch._utils._rebuild_tensor_v2, args

    stream = io.BytesIO()
    Pickler(stream, 2).dump({"x": Lie()})
    return stream.getvalue()


@FORMATS
@pytest.mark.parametrize("key", [None, "codec_model"])
def test_every_kind_of_tensor_equals_torch_load(tmp_path: Path, zipped: bool, key: str | None) -> None:
    wanted = tensors()
    path = save(tmp_path / "a.pth", wanted if key is None else {"step": 3, key: wanted}, zipped)
    state = read_state_dict(path, key)
    assert list(state) == list(wanted)
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(state[name], as_numpy(tensor), strict=True)


@FORMATS
def test_a_modules_state_dict_with_its_metadata(tmp_path: Path, zipped: bool) -> None:
    wanted = torch.nn.Sequential(torch.nn.Conv1d(2, 3, 5), torch.nn.LayerNorm(4)).state_dict()
    state = read_state_dict(save(tmp_path / "a.pth", {"codec_model": wanted}, zipped), "codec_model")
    assert set(state) == set(wanted)
    assert all(np.array_equal(state[name], tensor.numpy()) for name, tensor in wanted.items())


def test_the_golden_checkpoint(reference_checkpoint: Callable[[str], Path]) -> None:
    path = reference_checkpoint("xcodec_micro") / "ckpt_00360000.pth"
    wanted = torch.load(path, weights_only=True)["codec_model"]
    state = read_state_dict(path, "codec_model")
    assert list(state) == list(wanted)
    assert all(np.array_equal(state[name], tensor.numpy()) for name, tensor in wanted.items())


class Schedule:
    """Odd company for weights: state through __getstate__, slots, and a method in a dictionary."""

    __slots__ = ("base", "calls")

    def __init__(self) -> None:
        self.base, self.calls = functools.partial(max, 3), [len, print]


@FORMATS
def test_optimisers_and_schedulers_beside_the_weights(tmp_path: Path, zipped: bool) -> None:
    layer = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(3)).sum().backward()
    optimiser.step()
    content = {
        "optimizer_g": optimiser.state_dict(),
        "optimizer": optimiser,
        "lr_scheduler_g": Schedule(),
        "args": argparse.Namespace(path=Path("x"), seen={1, 2}, frozen=frozenset((3,))),
        "counts": collections.defaultdict(list, a=[1]),
        "rng": np.random.default_rng(0).bit_generator.state,
        "array": np.arange(4),
        "dtype": (torch.float32, torch.Size([1, 2]), torch.device("cpu"), 1 << 80, 1.5, None, b"x"),
        "module": torch.nn.ReLU(),
        "codec_model": layer.state_dict(),
    }
    state = read_state_dict(save(tmp_path / "a.pth", content, zipped), "codec_model")
    assert np.array_equal(state["weight"], layer.weight.detach().numpy())


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


@FORMATS
def test_a_truncated_file_is_a_damaged_file_at_every_offset(tmp_path: Path, zipped: bool) -> None:
    whole = save(tmp_path / "a.pth", {"codec_model": tensors()}, zipped).read_bytes()
    path = tmp_path / "cut.pth"
    for size in range(0, len(whole) - 1, max(1, len(whole) // 400)):
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedFile):
            read_state_dict(path, "codec_model")


@FORMATS
def test_flipped_bytes_never_raise_anything_else(tmp_path: Path, zipped: bool) -> None:
    whole = bytearray(save(tmp_path / "a.pth", {"codec_model": tensors()}, zipped).read_bytes())
    rng = np.random.default_rng(1)
    path = tmp_path / "flipped.pth"
    for position in rng.integers(0, len(whole), 600):
        damaged = bytearray(whole)
        damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            for _ in read_state_dict(path, "codec_model").values():
                pass
        except DamagedFile:
            continue


@pytest.mark.parametrize("key", [None, "codec_model"])
def test_every_flipped_byte_of_a_record_is_found(tmp_path: Path, key: str | None) -> None:
    """Of the pickle and of each storage that is asked for: their checksums are in the archive."""
    wanted = {"a": torch.ones(50), "b": torch.zeros(50)}
    path = save(tmp_path / "a.pth", wanted if key is None else {key: wanted})
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        records = [e for e in archive.infolist() if e.filename.endswith(("data.pkl", "/0", "/1"))]
        spans = [(e.filename, _start(whole, e), e.file_size) for e in records]
    assert len(spans) == 3
    for name, start, size in spans:
        for position in range(start, start + size, 7):
            damaged = bytearray(whole)
            damaged[position] ^= 1
            path.write_bytes(damaged)
            with pytest.raises(DamagedFile, match="does not match its checksum"):
                list(read_state_dict(path, key).values())
        if not name.endswith("pkl"):
            other = "b" if name.endswith("0") else "a"
            np.testing.assert_array_equal(read_state_dict(path, key)[other], wanted[other])


def test_an_archive_without_checksums_is_read_as_it_is(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = save(tmp_path / "a.pth", {"a": torch.arange(50)})
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(path) as archive:
        assert {entry.CRC for entry in archive.infolist()} == {0}
    np.testing.assert_array_equal(read_state_dict(path)["a"], np.arange(50))


def _start(whole: bytes, entry: zipfile.ZipInfo) -> int:
    lengths = whole[entry.header_offset + 26 : entry.header_offset + 30]
    return entry.header_offset + 30 + sum(int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))


def test_archives_that_torch_never_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"}." + bytes(1 << 24))
    with pytest.raises(DamagedFile, match="compressed"):
        read_state_dict(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"}.")
        archive.writestr("b/data.pkl", b"}.")
    with pytest.raises(DamagedFile, match="or several"):
        read_state_dict(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"}.")
        archive.writestr("a/byteorder", b"big")
    with pytest.raises(DamagedFile, match="big-endian"):
        read_state_dict(path)


def test_a_directory_that_lies_about_sizes_is_refused(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.pth", {"x": torch.ones(100)}).read_bytes()
    at = whole.rindex(b"PK\x01\x02")  # the last member of the directory
    lying = bytearray(whole)
    lying[at + 20 : at + 28] = b"\xf0\xff\xff\xff\xf0\xff\xff\xff"
    path = tmp_path / "lying.pth"
    path.write_bytes(lying)
    with pytest.raises(DamagedFile):
        read_state_dict(path)["x"]


def test_what_is_not_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    for content in (b"", b"PK", b"\x80", b"hello, world", pickle.dumps({"a": 1}), bytes(5000)):
        path.write_bytes(content)
        with pytest.raises(DamagedFile):
            read_state_dict(path)
    with pytest.raises(ModelNotFound):
        read_state_dict(tmp_path / "none.pth")
    with pytest.raises(ModelNotFound):
        read_state_dict(tmp_path)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"generator": {}, "list": []})
    with pytest.raises(DamagedFile, match="no key 'codec_model'"):
        read_state_dict(path, "codec_model")
    with pytest.raises(DamagedFile, match="key 'list' is not a dictionary"):
        read_state_dict(path, "list")
    with pytest.raises(KeyError):
        read_state_dict(path, "generator")["x"]


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"x": torch.ones(2)})
    code = (
        "import sys; from pathlib import Path; from yuegguf_onnx_codec.pth import read_state_dict; "
        f"print(read_state_dict(Path({str(path)!r}))['x'].sum()); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2.0"
