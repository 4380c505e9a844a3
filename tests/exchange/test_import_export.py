"""`import` and `export`: official pairs, YuE-UI's projects, two stems; there and back without a change."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers import FAST, FRAMES, GENRE, LYRICS, OURS, Capture, cli, ended, new_song, refused
from shared_data import shared_path

from yuegguf.errors import DamagedFile, RequestError
from yuegguf.exchange import convert, yue_ui
from yuegguf.exchange.imported import ImportFacts
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import SongRequest
from yuegguf.song.folder import SongFolder
from yuegguf.song.record import Imported

SONG = (*OURS, *FAST)
THREAD = ("--threads", 1)
CODES = np.random.default_rng(3).integers(0, 1024, (2, 8, 60)).astype(np.int16)
pytestmark = pytest.mark.usefixtures("no_models")


def imported(capsys: Capture, out: Path, *args: object) -> Path:
    result = cli(capsys, "import", *args, *THREAD, "-o", out, "--json")
    assert result.code == 0, result.err
    return Path(result.json["folder"])


def exported(capsys: Capture, song: Path, out: Path, *args: object) -> list[Path]:
    result = cli(capsys, "export", song, "-o", out, *args, "--json")
    assert result.code == 0, result.err
    return [Path(file) for file in result.json["files"]]


def rendered(capsys: Capture, folder: Path) -> dict[str, Any]:
    result = cli(capsys, "resume", folder, *THREAD, "--json")
    ended(result)
    return dict(result.json)


def waves(folder: Path) -> list[np.ndarray]:
    return [soundfile.read(folder / f"{name}.wav")[0] for name in ("mix", "vocals", "instrumental")]


def same_sound(one: Path, other: Path) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(waves(one), waves(other), strict=True))


def pair(folder: Path, codes: np.ndarray, name: str = "x") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for mark, track in zip(("vtrack", "itrack"), codes, strict=True):
        np.save(folder / f"{name}_{mark}.npy", track.astype(np.uint32))
    return folder


# There and back


def test_a_song_survives_yue_ui(capsys: Capture, song: Path, tmp_path: Path) -> None:
    """Draws, codes, sections, lyrics, tags and settings; and the sound."""
    (project,) = exported(capsys, song, tmp_path, "--yue-ui")
    assert project == tmp_path / f"{song.name}.json"
    folder = imported(capsys, tmp_path / "songs", project)
    before, after = SongFolder.open(song), SongFolder.open(folder)
    assert after.state == "master"
    for name in ("tokens.log", "stage1.npz", "stage2.npz"):
        assert (folder / name).read_bytes() == (song / name).read_bytes(), name
    assert after.request.lyrics == before.request.lyrics == LYRICS
    assert after.request.genre == " ".join(GENRE.split())
    for name in ("sections", "segment_seconds", "seed"):
        assert getattr(after.request, name) == getattr(before.request, name), name
    assert rendered(capsys, folder)["sections"] == json.loads((song / "song.json").read_text())["sections"]
    assert same_sound(folder, song)
    assert (folder / "markers.txt").read_bytes() == (song / "markers.txt").read_bytes()


def test_a_song_survives_the_official_pair_of_stage_2(capsys: Capture, song: Path, tmp_path: Path) -> None:
    exported(capsys, song, tmp_path)
    folder = imported(capsys, tmp_path / "songs", tmp_path, "--lyrics", LYRICS, "--at", "1,2")
    for name in ("tokens.log", "stage1.npz", "stage2.npz"):
        assert (folder / name).read_bytes() == (song / name).read_bytes(), name
    request = SongFolder.open(folder).request
    assert (request.genre, request.lyrics, request.segment_seconds) == ("warm folk female", LYRICS, 1.0)
    rendered(capsys, folder)
    assert same_sound(folder, song)


def test_a_song_survives_the_official_pair_of_stage_1(capsys: Capture, song: Path, tmp_path: Path) -> None:
    """Stage 2 is greedy: refined again on the same machine, the same codes come."""
    exported(capsys, song, tmp_path)
    folder = imported(capsys, tmp_path / "songs", tmp_path / "stage1", "--lyrics", LYRICS, "--at", "1,2")
    assert SongFolder.open(folder).state == "refine"
    assert (folder / "stage1.npz").read_bytes() == (song / "stage1.npz").read_bytes()
    rendered(capsys, folder)
    assert (folder / "stage2.npz").read_bytes() == (song / "stage2.npz").read_bytes()
    assert same_sound(folder, song)


def test_what_was_imported_is_replayed_from_its_log(capsys: Capture, song: Path, tmp_path: Path) -> None:
    """As in a song of ours: codes that are lost come back from the draws, and nothing is drawn anew."""
    exported(capsys, song, tmp_path)
    folder = imported(capsys, tmp_path / "songs", tmp_path, "--lyrics", LYRICS, "--at", "1.5")
    log = (folder / "tokens.log").read_bytes()
    codes = np.load(folder / "stage1.npz")["codes"]
    for name in ("stage1.npz", "stage2.npz"):
        (folder / name).unlink()
    assert rendered(capsys, folder)["seconds"] == FRAMES / 50
    assert (np.load(folder / "stage1.npz")["codes"] == codes).all()
    assert (folder / "tokens.log").read_bytes() == log


def test_the_exported_pair_decodes_to_the_song(capsys: Capture, song: Path, tmp_path: Path) -> None:
    exported(capsys, song, tmp_path)
    assert cli(capsys, "decode", tmp_path, "-o", tmp_path / "out", *THREAD).code == 0
    assert same_sound(tmp_path / "out", song)


# What is exported


def test_the_official_files_are_named_and_shaped_as_infer_py_does(
    capsys: Capture, song: Path, tmp_path: Path
) -> None:
    files = exported(capsys, song, tmp_path)
    name = r"warm-folk-female_tp0@93_T1@0_rp1@1_maxtk100_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    assert [file.parent.name for file in files] == ["stage1", "stage1", "stage2", "stage2"]
    assert all(re.fullmatch(name + r"_[vi]track\.npy", file.name) for file in files)
    assert [file.name.rsplit("_", 1)[1] for file in files] == ["vtrack.npy", "itrack.npy"] * 2
    arrays = [np.load(file) for file in files]
    assert [(a.dtype, a.shape) for a in arrays] == [(np.uint32, (n, FRAMES)) for n in (1, 1, 8, 8)]
    whole = np.load(song / "stage2.npz")["codes"]
    assert (np.stack(arrays[2:]) == whole).all()
    assert (np.stack(arrays[:2]) == whole[:, :1]).all()
    assert refused(capsys, 5, "export", song, "-o", tmp_path) == (
        f"{files[0]} is already there; choose another place with -o, or replace it with --force"
    )
    assert exported(capsys, song, tmp_path, "--force") == files


def test_a_name_holds_no_path_and_fits_a_file_system() -> None:
    codes0 = CODES[:, 0]
    long = convert.npy_name(SongRequest("é" * 300, "[verse]\nla"), codes0)
    assert len(f"{long}_vtrack.npy".encode()) < 255
    assert long.startswith("é" * 60 + "_tp0@93")
    assert convert.npy_name(SongRequest(" r&b/soul a.b\n../c ", "[verse]\nla"), codes0).startswith(
        "r&b-soul-a@b-@@-c_tp"
    )
    assert long != convert.npy_name(SongRequest("é" * 300, "[verse]\nla"), codes0[:, :50])


def test_a_song_that_is_not_drafted_has_nothing_to_export(capsys: Capture, tmp_path: Path) -> None:
    folder = new_song(tmp_path).path
    sentence = f"{folder} is not drafted yet; go on with: yuegguf resume {folder}"
    assert refused(capsys, 5, "export", folder) == sentence
    assert refused(capsys, 5, "export", folder, "--yue-ui") == sentence
    assert refused(capsys, 5, "export", tmp_path).startswith(f"{tmp_path} is not a song folder; ")


def test_a_draft_is_exported_without_stage_2(capsys: Capture, tmp_path: Path) -> None:
    folder = imported(capsys, tmp_path / "songs", pair(tmp_path / "in", CODES[:, :1]), "-g", "pop")
    files = exported(capsys, folder, tmp_path / "out")
    assert [file.parent.name for file in files] == ["stage1", "stage1"]
    (project,) = exported(capsys, folder, tmp_path / "out", "--yue-ui")
    found = yue_ui.parse_project(project.read_bytes(), "p")
    assert found.codes.shape == (2, 8, 0)
    assert (found.codes0 == CODES[:, 0]).all()


def test_lyrics_that_yue_ui_splits_otherwise_are_written_anew_with_a_notice(
    capsys: Capture, tmp_path: Path
) -> None:
    lyrics = "[verse]\nla [x2]\n[chorus]\nlo"
    source = pair(tmp_path / "in", CODES)
    folder = imported(capsys, tmp_path, source, "-g", "pop", "--lyrics", lyrics, "--at", "0.5")
    result = cli(capsys, "export", folder, "--yue-ui", "-o", tmp_path / "out", "--json")
    assert result.err == "note: the lyrics are written anew, as YuE-UI splits them into sections\n"
    again = imported(capsys, tmp_path / "again", result.json["files"][0])
    first, second = (SongFolder.open(path) for path in (folder, again))
    assert [s.label for s in second.song.sections] == ["verse", "chorus"]
    assert (again / "stage1.npz").read_bytes() == (folder / "stage1.npz").read_bytes()
    assert first.load_stage1()[1].tolist() == [25, 35]


# What is imported


@pytest.mark.slow
def test_yue_uis_example_is_imported_whole_and_renders(capsys: Capture, tmp_path: Path) -> None:
    source = shared_path("data/yue-ui-example-song.json")
    raw = json.loads(source.read_text("utf-8"))
    folder = imported(capsys, tmp_path, source, "--no-stems")
    opened = SongFolder.open(folder)
    assert opened.state == "master"
    assert opened.request.lyrics == raw["lyrics_text"]
    codes0, frames = opened.load_stage1()
    assert [int(n) for n in frames] == [end - start for _, start, end in raw["cache"]["segments"]]
    assert [(row + 45334).tolist() for row in codes0.astype(int)] == raw["cache"]["tracks"][0]
    song = rendered(capsys, folder)
    assert song["seconds"] == 186.74
    assert [(s["label"], s["start"]) for s in song["sections"]] == [
        (name, start / 50) for name, start, _ in raw["cache"]["segments"]
    ]
    assert soundfile.info(song["files"][0]).frames == 9337 * 882


def test_a_rewound_project_is_what_it_shows(tmp_path: Path) -> None:
    """Rewinding moves the last segment's end and leaves the tracks as they are."""
    segments = (yue_ui.Segment("verse", 0, 20), yue_ui.Segment("chorus", 25, 45))
    project = yue_ui.Project("pop", "[verse]\nla\n[chorus]\nlo", segments, CODES[:, 0], CODES[:, :, :30])
    path = tmp_path / "p.json"
    path.write_bytes(yue_ui.format_project(project))
    found = convert.from_project(path, ImportFacts())
    kept = [*range(20), *range(25, 45)]
    assert found.frames == (20, 20)
    assert (found.codes0 == CODES[:, 0, kept]).all()
    assert (found.codes == CODES[:, :, kept[:25]]).all()
    assert found.origin == Imported(tool="YuE-UI", files=("p.json",), start=0.0)


def test_tags_and_settings_come_from_the_official_name(tmp_path: Path) -> None:
    name = "cot_airy-female-pop-80@s_tp0@9_T0@8_rp1@2_maxtk2000_01234567-89ab-4def-8123-456789abcdef"
    request = convert.from_pair([pair(tmp_path, CODES, name)], ImportFacts()).request
    assert (request.genre, request.segment_seconds) == ("airy female pop 80.s", 20.0)
    assert request.sampling == Sampling(top_p=0.9, temperature=0.8, repetition_penalty=1.2)
    assert convert.from_pair([tmp_path], ImportFacts(genre="rock")).request.genre == "rock"
    odd = convert.from_pair([pair(tmp_path / "odd", CODES, "a_tp9_T1_rp1_maxtk7_x")], ImportFacts()).request
    assert (odd.genre, odd.sampling, odd.segment_seconds) == ("a", Sampling(), 2.0)  # what is there fits
    foreign = [pair(tmp_path / "foreign", CODES, "a_tp1@2@3_T1_rp1_maxtk3000_x")]
    assert convert.from_pair(foreign, ImportFacts(genre="rock")).request.sampling == Sampling()


@pytest.mark.parametrize("codebooks", [1, 8])
def test_pairs_of_either_stage_in_either_order_and_of_unequal_length(codebooks: int, tmp_path: Path) -> None:
    pair(tmp_path, CODES[:, :codebooks])
    files = [tmp_path / "x_vtrack.npy", tmp_path / "x_itrack.npy"]
    np.save(files[1], CODES[1, :codebooks, :40])
    for given in (files, files[::-1], [tmp_path]):
        found = convert.from_pair(given, ImportFacts(genre="pop"))
        assert (found.codes0 == CODES[:, 0, :40]).all()
        assert found.codes.shape == (2, 8, 40 if codebooks == 8 else 0)
        assert found.notices[0] == "the tracks differ in length; both are cut to 0.8 s"


def test_two_files_of_different_stages_are_no_pair(tmp_path: Path) -> None:
    pair(tmp_path, CODES)
    np.save(tmp_path / "x_itrack.npy", CODES[1, :1])
    with pytest.raises(DamagedFile, match="come from different stages; pass two files of one stage"):
        convert.from_pair([tmp_path], ImportFacts(genre="pop"))


def test_stage_2_is_taken_where_infer_py_left_both(tmp_path: Path) -> None:
    pair(tmp_path / "stage1", CODES[:, :1])
    assert convert.from_pair([tmp_path], ImportFacts(genre="pop")).codes.shape == (2, 8, 0)
    pair(tmp_path / "stage2", CODES)
    assert (convert.from_pair([tmp_path], ImportFacts(genre="pop")).codes == CODES).all()


def test_stems_are_encoded_whole_and_cut(capsys: Capture, recordings: Path, tmp_path: Path) -> None:
    stems = (recordings / "long.wav", recordings / "a.wav")
    assert cli(capsys, "encode", *stems, "-o", tmp_path, *THREAD).code == 0
    whole = np.stack([np.load(tmp_path / f"{stem.stem}.npy")[:, :100] for stem in stems])
    line = ("--vocal", stems[0], "--inst", stems[1], "-g", "pop", "--lyrics", LYRICS)
    result = cli(
        capsys, "import", *line, "--start", 0.49, "--take", 1, *THREAD, "-o", tmp_path / "s", "--json"
    )
    assert (
        "note: long.wav is 4 s and a.wav is 2 s long: the longer track is cut to the shorter\n" in result.err
    )
    facts = {"state": "master", "seconds": 1.0, "frames": [50]}
    assert result.json == {"folder": result.json["folder"], **facts}
    folder = SongFolder.open(Path(result.json["folder"]))
    assert (folder.load_stage2() == whole[:, :, 24:74]).all()
    assert folder.record.imported == Imported(tool="stems", files=("long.wav", "a.wav"), start=0.48)
    assert folder.request.sections == "1"  # the other sections are there to be sung
    assert rendered(capsys, folder.path)["seconds"] == 1.0
    everything = imported(capsys, tmp_path / "s", *line)
    assert (SongFolder.open(everything).load_stage2() == whole).all()


def test_what_cannot_be_imported(
    capsys: Capture, recordings: Path, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yuegguf.song import encoding

    monkeypatch.setattr(encoding, "encode_stems", None)  # all of it is said before anything is encoded
    stems = ("--vocal", recordings / "a.wav", "--inst", recordings / "b.flac")
    source = pair(tmp_path / "in", CODES)
    rubbish = tmp_path / "p.json"
    rubbish.write_bytes(b"rubbish")
    out = tmp_path / "out"
    for code, args, sentence in (
        (2, (), "pass a project, a pair of .npy files, or --vocal and --inst"),
        (2, (source, *stems), "pass a project, a pair of .npy files, or --vocal and --inst"),
        (2, stems[:2], "pass both stems: --vocal FILE --inst FILE"),
        (2, (source, "--at", "one"), "Invalid value for --at: 'one' is not a list such as 28.5,57"),
        (5, (source,), "no genre tags are known of x_vtrack.npy and x_itrack.npy; pass them: "),
        (5, stems, "no genre tags are known of a.wav and b.flac; pass them: "),
        (5, (*stems, "-g", "pop", "--lyrics", "…"), "the lyrics have no words and no section label; "),
        (
            5,
            (*stems, "--start", 1.5),
            "the window 1.5-inf s holds nothing of the recording, which is 1.5 s long",
        ),
        (5, (*stems, "--start", "nan"), "the window nan-inf s is empty; "),
        (5, (*stems, "--take", 0), "the window 0-0 s is empty; pass a --take above 0"),
        (5, (*stems[:3], "none.wav"), "no audio file at none.wav; "),
        (
            5,
            (source, "-g", "pop", "--at", "5"),
            "the starts of the sections are not in order within the song",
        ),
        (5, (song,), f"{song} is a song folder already; go on with: yuegguf resume {song}"),
        (5, (tmp_path / "none.json",), f"there is no file {tmp_path / 'none.json'}; "),
        (5, (source / "x_vtrack.npy",), "codes of both tracks are needed; "),
        (5, (tmp_path,), f"{tmp_path} does not hold one *vtrack.npy and one *itrack.npy; "),
        (7, (rubbish,), "p.json is not a project of YuE-UI, or it is damaged; "),
        (
            3,
            (source, "-g", "pop", "--model", "en-cot"),
            "en-cot, s2-general and xcodec are not installed in ",
        ),
        (5, (source, "-g", "pop", "--format", "ogg"), "unknown format in 'ogg'; "),
    ):
        assert refused(capsys, code, "import", *args, "-o", out).startswith(sentence), args
        assert not out.exists()


def test_an_empty_pair_is_no_song(tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=r"there are no frames of music in x_vtrack\.npy and x_itrack\.npy; "
    ):
        convert.from_pair([pair(tmp_path, CODES[:, :, :0])], ImportFacts(genre="pop"))
