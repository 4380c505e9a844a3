"""Tensors of a file of `torch.save`, read without PyTorch and without executing its content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from yuegguf.errors import DamagedFile
from yuegguf.files.pth import Place, Span, check_span, read_state_dict
from yuegguf.files.reading import unreadable

from .json_object import shorten
from .safetensors import MAX_NAME, StoredTensor

STORAGES: Mapping[str, str] = {"FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16"}
"""torch's storage classes → dtypes."""
WRAPPERS = ("state_dict", "model", "module")
"""Keys under which trainers keep the weights, beside an optimiser and counters."""


@dataclass(frozen=True)
class TorchTensor(StoredTensor):
    """One tensor of a file of `torch.save`; its values stay on disk."""

    span: Span
    """Storage that holds them."""

    def check(self) -> None:
        """Compare the storage with its checksum, if it has one. Raises DamagedFile."""
        try:
            check_span(self.path, self.span)
        except OSError as error:
            raise unreadable(self.path, error) from error


def open_torch_file(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a `.bin` or `.pth` file by name. Raises ModelNotFound, DamagedFile."""
    state = read_state_dict(path).within(*WRAPPERS)
    return {name: _tensor(path, name, state.place(name)) for name in state}


def _tensor(path: Path, name: str, place: Place) -> TorchTensor:
    if not name.isprintable() or not 0 < len(name) <= MAX_NAME:
        raise DamagedFile(f"{path.name}: a tensor's name makes no sense ({shorten(name)})")
    if place.kind not in STORAGES:
        raise DamagedFile(
            f"{path.name}: tensor {name} has numbers of {place.kind}",
            f"only {', '.join(STORAGES.values())} can be converted",
        )
    return TorchTensor(name, STORAGES[place.kind], place.shape or (1,), path, place.start, place.span)
