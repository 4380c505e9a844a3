"""The checkpoint reader: the same numbers as torch.load, and nothing in a file is ever run."""

from __future__ import annotations

import argparse
import collections
import functools
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pth_files import FORMATS, as_numpy, save, tensors

from yuegguf.errors import DamagedFile, ModelNotFound
from yuegguf.files.pth import read_state_dict


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
        "import sys; from pathlib import Path; from yuegguf.files.pth import read_state_dict; "
        f"print(read_state_dict(Path({str(path)!r}))['x'].sum()); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2.0"
