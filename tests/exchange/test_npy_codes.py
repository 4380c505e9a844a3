"""Codes in files: our folder, the official pair, exl2's, single tracks, and what is none of these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import new_song
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile, RequestError, StorageError
from yuegguf.exchange.npy_codes import read_codes, read_track, track_from_name, write_track

CODES = np.random.default_rng(3).integers(0, 1024, (2, 8, 30)).astype(np.int16)


def save(path: Path, array: NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


def pair(folder: Path, vocal: str, instrumental: str, kind: type = np.int16) -> tuple[Path, Path]:
    names = (folder / vocal, folder / instrumental)
    return save(names[0], CODES[0].astype(kind)), save(names[1], CODES[1].astype(kind))


def test_a_song_folder(tmp_path: Path) -> None:
    folder = new_song(tmp_path)
    with pytest.raises(RequestError, match=r"has no stage2\.npz yet; run: yuegguf resume"):
        read_codes([folder.path])
    folder.save_stage2(CODES)
    assert (read_codes([folder.path]) == CODES).all()


@pytest.mark.parametrize("kind", [np.int16, np.uint32, np.int64, np.uint8])
def test_the_official_pair_in_either_order_and_type(kind: type, tmp_path: Path) -> None:
    codes = CODES % 200 if kind is np.uint8 else CODES
    vocal = save(tmp_path / "cot_a_T1_vtrack.npy", codes[0].astype(kind))
    backing = save(tmp_path / "cot_a_T1_itrack.npy", codes[1].astype(kind))
    for given in ([vocal, backing], [backing, vocal], [tmp_path]):
        found = read_codes(given)
        assert found.dtype == np.int16
        assert (found == codes).all()


def test_files_of_other_names_are_vocal_then_backing(tmp_path: Path) -> None:
    first, second = pair(tmp_path, "one.npy", "two.npy")
    assert (read_codes([first, second]) == CODES).all()
    assert (read_codes([second, first]) == CODES[::-1]).all()


def test_exl2_keeps_its_pair_in_stage2(tmp_path: Path) -> None:
    pair(tmp_path / "stage2", "vtrack.npy", "itrack.npy")
    assert (read_codes([tmp_path]) == CODES).all()
    assert (read_codes([tmp_path / "stage2"]) == CODES).all()


def test_tracks_of_different_length_are_cut_to_the_shorter(tmp_path: Path) -> None:
    vocal = save(tmp_path / "a_vtrack.npy", CODES[0])
    backing = save(tmp_path / "a_itrack.npy", CODES[1][:, :17])
    assert (read_codes([vocal, backing]) == CODES[:, :, :17]).all()


def test_a_batch_dimension_of_one_is_taken_off(tmp_path: Path) -> None:
    assert (read_track(save(tmp_path / "a.npy", CODES[:1])) == CODES[0]).all()


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (CODES[0, :1], "t.npy holds codebook 0 only: it comes from stage 1; pass the files of stage 2"),
        (CODES[0, :7], "t.npy does not hold codes of the expected shape (int16[7, 30])"),
        (CODES, "t.npy does not hold codes of the expected shape (int16[2, 8, 30])"),
        (CODES[0].astype(float), "t.npy does not hold codes of the expected shape (float64[8, 30])"),
        (CODES[0] + 1000, "t.npy holds codes outside 0-1023"),
        (CODES[0] - 1024, "t.npy holds codes outside 0-1023"),
        (np.int16(5), "t.npy does not hold codes of the expected shape (int16[])"),
    ],
)
def test_what_cannot_be_a_track_is_refused(array: NDArray[np.generic], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedFile) as caught:
        read_track(save(tmp_path / "t.npy", array))
    assert str(caught.value) == sentence


def test_pickles_and_rubbish_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DamagedFile, match=r"is not a readable \.npy file"):
        read_track(path)
    whole = save(path, CODES[0]).read_bytes()
    for content in (b"", b"\x93NUMPY", whole[:100], whole[:-1], b"RIFF" + whole):
        path.write_bytes(content)
        complaint = r"is not a readable \.npy file" if content else "is an empty file"
        with pytest.raises(DamagedFile, match=complaint):
            read_track(path)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_folder_without_one_pair_says_what_was_looked_for(count: int, tmp_path: Path) -> None:
    for i in range(count):
        save(tmp_path / f"{i}_vtrack.npy", CODES[0])
    with pytest.raises(RequestError) as caught:
        read_codes([tmp_path])
    assert str(caught.value) == (
        f"{tmp_path} does not hold one *vtrack.npy and one *itrack.npy; "
        "pass a song folder, or name the two files"
    )


def test_names_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no file"):
        read_codes([tmp_path / "a.npy", tmp_path / "b.npy"])
    with pytest.raises(RequestError, match="codes of both tracks are needed"):
        read_codes([tmp_path / "a", tmp_path / "b", tmp_path / "c"])


@pytest.mark.parametrize(
    ("name", "track"),
    [
        ("vocal", "vocal"),
        ("a_vtrack", "vocal"),
        ("song", "vocal"),
        ("a_itrack", "instrumental"),
        ("Instrumental", "instrumental"),
        ("my-inst", "instrumental"),
    ],
)
def test_a_name_gives_the_track(name: str, track: str) -> None:
    assert track_from_name(Path(f"instruments/{name}.npy")) == track


@pytest.mark.parametrize(
    ("name", "track"),
    [
        ("instrumental-rock_tp0@93_T1@0_rp1@2_maxtk3000_vtrack", "vocal"),
        ("instrumental-rock_tp0@93_T1@0_rp1@2_maxtk3000_itrack", "instrumental"),
        ("vocal-jazz_itrack", "instrumental"),
        ("Instrumental", "instrumental"),
        ("song", "vocal"),
    ],
)
def test_yues_own_mark_outweighs_the_genre_in_a_name(name: str, track: str) -> None:
    assert track_from_name(Path(f"{name}.npy")) == track


def test_written_tracks_are_plain_int16_arrays(tmp_path: Path) -> None:
    write_track(tmp_path / "t.npy", CODES[0].astype(np.int64))
    loaded = np.load(tmp_path / "t.npy", allow_pickle=False)
    assert (loaded.dtype, loaded.shape) == (np.int16, (8, 30))
    assert (loaded == CODES[0]).all()
    assert [path.name for path in tmp_path.iterdir()] == ["t.npy"]
    with pytest.raises(StorageError):
        write_track(tmp_path / "nowhere" / "t.npy", CODES[0])
