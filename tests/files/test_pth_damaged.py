"""Damaged checkpoints: cut off, with flipped bytes, or in archives that torch never writes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from pth_files import FORMATS, save, tensors

from yuegguf.errors import DamagedFile
from yuegguf.files.pth import read_state_dict


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
    with pytest.raises(DamagedFile, match=r"several data\.pkl"):
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
