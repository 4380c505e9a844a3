"""Arrays of others: what announces more than it holds is refused, and takes no memory for it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import Capture, refused

from yuegguf.errors import DamagedFile
from yuegguf.exchange.npy_codes import read_track
from yuegguf.files import arrays, npy

ARRAY = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def npy_of(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


def with_header(text: str, data: bytes = b"\0" * 64, length: int | None = None) -> bytes:
    """An .npy of format 2 with this text as its header."""
    header = text.encode("latin-1")
    return b"\x93NUMPY\2\0" + (length or len(header)).to_bytes(4, "little") + header + data


def header(shape: str = "(32,)", kind: str = "'<i2'", fortran: str = "False") -> str:
    return f"{{'descr': {kind}, 'fortran_order': {fortran}, 'shape': {shape}}}\n"


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [np.int16, ">i8", np.float32, bool])
def test_numbers_come_back_as_numpy_wrote_them(version: tuple[int, int], order: str, kind: type) -> None:
    array = np.array(ARRAY, kind, order=order)  # type: ignore[call-overload]
    for shaped in (array, array[:, :0], array[:1, :1, :1].reshape(())):
        data = npy_of(shaped, version)
        back = npy.read_npy(io.BytesIO(data), len(data))
        assert (back.dtype, back.shape) == (array.dtype, shaped.shape)
        assert (back == shaped).all()


HOSTILE = {
    "more than there is": with_header(header("(1000000000000,)")),
    "more than any memory": with_header(header(f"({'9' * 400},)")),
    "a little more than there is": with_header(header("(33,)")),
    "less than there is": with_header(header("(31,)")),
    "a negative length": with_header(header("(-1,)")),
    "two negative lengths": with_header(header("(-4, -8)")),
    "many dimensions": with_header(header(f"({'1, ' * 60}32)")),
    "no numbers": with_header(header(kind="'|O'")),
    "numbers without a size": with_header(header("(1000000000000,)", "'|V0'"), b""),
    "texts": with_header(header("(8,)", "'<U2'")),
    "records": with_header(header("(8,)", "[('a', '<i4'), ('b', '<i4')]")),
    "a list as kind": with_header(header(kind="[[[]]]")),
    "no kind": with_header(header(kind="'?!'")),
    "an order that is none": with_header(header(fortran="'both'")),
    "no dictionary": with_header("[1, 2]"),
    "nesting": with_header("[" * 9_000),
    "signs without end": with_header("-" * 9_000 + "1"),
    "a long header": with_header(header() + " " * 20_000),
    "a header of four gigabytes": with_header(header(), length=2**32 - 1),
    "a header that ends early": with_header(header(), b"", 5_000),
    "another version": b"\x93NUMPY\x09\0" + with_header(header())[8:],
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_headers_that_lie_are_one_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(DamagedFile, match=r"is not a readable \.npy file|is an empty file") as caught:
        arrays.load_array(path)
    assert len(caught.value.message) < 400
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.write(path, "codes.npy")
    with pytest.raises(DamagedFile, match="is damaged"):
        arrays.load_arrays(tmp_path / "x.npz", ("codes",))


def test_a_header_that_lies_is_refused_by_decode(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(HOSTILE["more than there is"])
    assert "is not a readable .npy file" in refused(capsys, 7, "decode", path)


def test_no_memory_for_a_file_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", ARRAY)
    np.savez(tmp_path / "x.npz", codes=ARRAY)

    def full(*args: object) -> object:
        raise MemoryError

    monkeypatch.setattr(npy, "_read_exactly", full)
    with pytest.raises(DamagedFile, match="too large for the memory"):
        read_track(tmp_path / "x.npy")
    with pytest.raises(DamagedFile, match="too large for the memory"):
        arrays.load_arrays(tmp_path / "x.npz", ("codes",))


def test_an_archive_is_not_unpacked_beyond_its_limit(tmp_path: Path) -> None:
    """Ten million zeros, compressed a thousand times, and one that is compressed by other means."""
    path = tmp_path / "x.npz"
    arrays.save_arrays(path, {"codes": np.zeros(10_000_000, np.int8)})
    assert path.stat().st_size < 20_000
    assert arrays.load_arrays(path, ("codes",))["codes"].size == 10_000_000
    with pytest.raises(DamagedFile, match="announces 10000128 bytes, at most 1000000 are read"):
        arrays.load_arrays(path, ("codes",), 1_000_000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("codes.npy", npy_of(ARRAY))
    with pytest.raises(DamagedFile, match="compressed in a way"):
        arrays.load_arrays(path, ("codes",))


def test_a_changed_byte_of_an_archive_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, codes=ARRAY)  # not compressed, so that a byte of the numbers can be changed
    data = bytearray(path.read_bytes())
    data[data.index(ARRAY.tobytes()) + 7] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFile, match="is damaged"):
        arrays.load_arrays(path, ("codes",))
