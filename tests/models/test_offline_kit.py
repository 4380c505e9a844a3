"""Offline kits, and the models commands on what was pulled."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import QUICK, Capture, Result, cli, finish, start
from hub import Hub

from yuegguf.models import lockfile

MINIMAL = ("en-cot", "s2-general", "xcodec")
SONG = ("run", "-g", "pop", "--lyrics", "[verse]\nla", *QUICK, "--output-dir")


@pytest.fixture(scope="module")
def shelf(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models, pulled once."""
    import family as offers
    from hub import serving

    root = tmp_path_factory.mktemp("shelf") / "models"
    with pytest.MonkeyPatch.context() as patch, serving(Hub()) as server:
        offers.publish(server, family, *MINIMAL)
        offers.use(server.url, patch.setattr)
        from yuegguf.cli import run_in_process

        assert run_in_process(["-q", "--models-dir", str(root), "pull", *MINIMAL]) == 0
    return root


@pytest.fixture
def root(shelf: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shelf, tmp_path / "models"))


def models(capsys: Capture, root: Path, *args: object) -> Result:
    return cli(capsys, "--models-dir", root, "models", *args)


def contents(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".pull.lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_a_kit_is_made_and_installed(capsys: Capture, hub: Hub, shelf: Path, tmp_path: Path) -> None:
    kit, new = tmp_path / "usb", tmp_path / "new"
    assert cli(capsys, "--models-dir", shelf, "pull", "--set", "minimal", "--to", kit).code == 0
    assert hub.asked == []  # all of it was on the shelf
    assert contents(kit) == contents(shelf)
    assert cli(capsys, "--models-dir", new, "pull", "--from", kit).code == 0
    assert contents(new) == contents(shelf)
    assert models(capsys, new, "verify").code == 0


def test_a_kit_fetches_what_is_not_here(capsys: Capture, hub: Hub, tmp_path: Path) -> None:
    kit = tmp_path / "usb"
    assert cli(capsys, "--models-dir", tmp_path / "a", "pull", "s2-general", "--to", kit).code == 0
    assert sorted(contents(kit)) == ["models.lock.json", "s2-general-Q8_0.gguf"]
    assert not (tmp_path / "a").exists()


def test_a_part_of_a_kit(capsys: Capture, shelf: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    result = cli(capsys, "--models-dir", new, "pull", "--from", shelf, "s2-general:Q8_0")
    assert (result.code, sorted(contents(new))) == (0, ["models.lock.json", "s2-general-Q8_0.gguf"])
    result = cli(capsys, "--models-dir", new, "pull", "--from", shelf, "zh-cot")
    assert result.code == 3
    assert "has no zh-cot; it has: en-cot:Q8_0, s2-general:Q8_0, xcodec" in result.error
    result = cli(capsys, "--models-dir", new, "pull", "--from", tmp_path / "nothing")
    assert (result.code, "is no kit" in result.error) == (3, True)


@pytest.mark.parametrize("direction", ["--from", "--to"])
@pytest.mark.parametrize(
    ("name", "path"), [("s2-general", "s2-general-Q8_0.gguf"), ("xcodec", "xcodec/decoder.onnx")]
)
def test_a_kit_replaces_no_file_of_the_users_own(
    capsys: Capture, hub: Hub, shelf: Path, tmp_path: Path, name: str, path: str, direction: str
) -> None:
    """Neither in the folder of models nor in the kit, also of the same size; and nothing else is copied."""
    new = tmp_path / "new"
    mine = bytes((shelf / path).stat().st_size)
    (new / path).parent.mkdir(parents=True)
    (new / path).write_bytes(mine)
    here, there = (new, shelf) if direction == "--from" else (shelf, new)
    result = cli(capsys, "--models-dir", here, "pull", direction, there, name)
    words = f"error: {new / path} is already there, and not from pull; use it, or replace it with --force"
    assert (result.code, result.error, contents(new)) == (5, words, {path: mine})
    if direction == "--from":
        assert cli(capsys, "--models-dir", here, "pull", direction, there, "--force").code == 0
        assert contents(new) == contents(shelf)


def test_a_kit_takes_in_files_that_are_its_own_and_replaces_what_pull_installed(
    capsys: Capture, shelf: Path, tmp_path: Path
) -> None:
    """As a copy leaves them that was killed before it wrote the lock."""
    new = Path(shutil.copytree(shelf, tmp_path / "new"))
    (new / lockfile.LOCK_NAME).unlink()
    assert cli(capsys, "--models-dir", new, "pull", "--from", shelf).code == 0
    assert contents(new) == contents(shelf)
    (new / "en-cot-Q8_0.gguf").write_bytes(b"damaged")
    assert cli(capsys, "--models-dir", new, "pull", "--from", shelf).code == 0
    assert contents(new) == contents(shelf)


def test_a_damaged_kit_installs_nothing_damaged(capsys: Capture, root: Path, tmp_path: Path) -> None:
    victim = root / "xcodec" / "decoder.onnx"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    result = cli(capsys, "--models-dir", tmp_path / "new", "pull", "--from", root)
    assert result.code == 7
    words = f"{victim} is damaged: its SHA-256 is not the one in models.lock.json; make the kit again"
    assert words in result.error
    assert not (tmp_path / "new" / "xcodec" / "decoder.onnx").exists()


def test_a_kits_lock_cannot_lead_out_of_it(capsys: Capture, root: Path, tmp_path: Path) -> None:
    lock = json.loads((root / lockfile.LOCK_NAME).read_text())
    for path in ("../../evil.gguf", "/tmp/evil.gguf", "a\\..\\b", ""):
        lock["files"][0]["path"] = path
        (root / lockfile.LOCK_NAME).write_text(json.dumps(lock))
        result = cli(capsys, "--models-dir", tmp_path / "new", "pull", "--from", root)
        assert (result.code, "makes no sense" in result.error) == (7, True)
    assert not list(tmp_path.rglob("evil*"))


def test_a_song_from_a_kit_in_a_world_without_network(shelf: Path, tmp_path: Path) -> None:
    """A network namespace of its own, with loopback down: nothing can be reached."""
    unshare = ["unshare", "--net", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("this machine does not permit network namespaces")
    new, songs = tmp_path / "new", tmp_path / "songs"
    yuegguf = [sys.executable, "-m", "yuegguf", "--models-dir", str(new)]
    probe = "import socket; socket.create_connection(('1.1.1.1', 53), 1)"
    for command, code in (
        ([sys.executable, "-c", probe], 1),
        ([*yuegguf, "pull", "--from", str(shelf)], 0),
        ([*yuegguf, "models", "verify"], 0),
        ([*yuegguf, *map(str, SONG), str(songs)], 0),
    ):
        done = subprocess.run([*unshare, *command], capture_output=True, text=True)
        assert done.returncode == code, done.stderr
    (folder,) = songs.iterdir()
    assert (folder / "mix.wav").stat().st_size > 1000
    used = json.loads((folder / "song.json").read_text())["models"]
    assert used["stage1"]["file"] == str(new / "en-cot-Q8_0.gguf")


def test_run_asks_nobody(shelf: Path, tmp_path: Path) -> None:
    """Not even a name is looked up, whatever the environment says."""
    command = ("--models-dir", shelf, *SONG, tmp_path)
    result = finish(start(*command, HF_ENDPOINT="http://127.0.0.1:9", HTTPS_PROXY="http://127.0.0.1:9"))
    assert result.code == 0, result.err


def test_list_says_what_is_here(capsys: Capture, root: Path) -> None:
    rows = {row["id"]: row for row in models(capsys, root, "list", "--json").json["models"]}
    assert rows["en-cot"]["installed"] == [str(root / "en-cot-Q8_0.gguf")]
    assert rows["xcodec"]["installed"] == [str(root / "xcodec")]
    assert rows["zh-cot"]["installed"] == []
    (root / "s2-general-Q8_0.gguf").write_bytes(b"short")
    text = models(capsys, root, "list").out
    assert "s2-general   stage2    damaged" in text
    assert "s2-general-Q8_0.gguf is missing or has another size than when it was installed" in text


def test_info_of_installed_and_of_any_files(capsys: Capture, root: Path, tmp_path: Path) -> None:
    (facts,) = models(capsys, root, "info", "en-cot:q8_0", "--json").json["files"]
    assert (facts["kind"], facts["role"], facts["trimmed"]) == ("GGUF", "stage1", True)
    assert facts["installed"]["source"] == "m-a-p/YuE-s1-7B-anneal-en-cot"
    assert facts["notes"] == []
    found = models(capsys, root, "info", "xcodec", "--json").json["files"]
    assert sorted(facts["codec"]["role"] for facts in found) == [
        "decoder", "encoder", "instrumental_upsampler", "vocal_upsampler",
    ]  # fmt: skip
    stray = Path(shutil.copy(root / "en-cot-Q8_0.gguf", tmp_path / "stray.gguf"))
    text = models(capsys, root, "info", stray).out
    assert "it is not in models.lock.json: nothing says where it came from" in text
    stray.write_bytes(stray.read_bytes()[:-1000])
    result = models(capsys, root, "info", stray)
    assert "stray.gguf is damaged: it ends before the end of tensor" in result.error
    assert result.code == 7
    (tmp_path / "x.bin").write_bytes(b"")
    assert models(capsys, root, "info", tmp_path / "x.bin").code == 5


@pytest.mark.parametrize("name", ["en-cot-Q8_0.gguf", "xcodec/encoder.onnx"])
@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
def test_verify_finds_every_harm(capsys: Capture, root: Path, name: str, harm: str) -> None:
    assert models(capsys, root, "verify").code == 0
    victim = root / name
    data = bytearray(victim.read_bytes())
    data[-3] ^= 1
    victim.unlink()
    if harm != "gone":
        victim.write_bytes(data if harm == "flip" else data[:-1])
    result = models(capsys, root, "verify", "--json")
    assert result.code == 7
    bad = [row for row in result.json["files"] if not row["ok"]]
    assert [row["file"] for row in bad] == [str(victim)]
    words = {"flip": "its SHA-256", "cut": "bytes instead of", "gone": "is not there"}
    assert words[harm] in bad[0]["state"]
    assert "get it again with: yuegguf pull" in bad[0]["state"]


def test_verify_knows_a_file_in_the_wrong_place(capsys: Capture, root: Path) -> None:
    shutil.copy(root / "s2-general-Q8_0.gguf", root / "zh-cot-Q8_0.gguf")
    result = models(capsys, root, "verify")
    assert result.code == 7
    assert "zh-cot-Q8_0.gguf is a stage-2 model, but it was given as stage-1" in result.out
    (root / "zh-cot-Q8_0.gguf").unlink()
    shutil.copy(root / "en-cot-Q8_0.gguf", root / "zh-cot-Q8_0.gguf")
    result = models(capsys, root, "verify", "zh-cot")
    assert (result.code, "there is no hash to compare with" in result.out) == (0, True)


def test_path_and_rm(capsys: Capture, root: Path) -> None:
    assert models(capsys, root, "path", "en-cot").out == f"{root / 'en-cot-Q8_0.gguf'}\n"
    assert len(models(capsys, root, "path", "xcodec").out.split()) == 4
    assert models(capsys, root, "path", "zh-cot").code == 3
    assert models(capsys, root, "rm", "en-cot:Q4_K_M").code == 3
    assert models(capsys, root, "rm", "en-cot:q8_0", "xcodec").code == 0
    assert sorted(contents(root)) == ["models.lock.json", "s2-general-Q8_0.gguf"]
    assert set(lockfile.read_lock(root)) == {"s2-general-Q8_0.gguf"}
    result = models(capsys, root, "path", "en-cot")
    assert result.error.endswith("is not installed in " + str(root) + "; get it with: yuegguf pull en-cot")


def test_licences_are_listed_with_who_states_them(capsys: Capture, root: Path) -> None:
    text = models(capsys, root, "licenses").out
    assert "CC-BY-NC-4.0 tensorblock/YuE-s1-7B-anneal-en-cot-GGUF  (not Apache-2.0)" in text
    assert "installed  en-cot:Q8_0      apache-2.0   m-a-p/YuE-s1-7B-anneal-en-cot\n" in text
    assert "not known    multimodalart/YuE-s2-1B-general-Q8_0-GGUF\n" in text


def test_a_damaged_lock_is_reported_and_run_goes_on_without(
    capsys: Capture, root: Path, tmp_path: Path
) -> None:
    (root / lockfile.LOCK_NAME).write_text('{"format": 1, "files": [{}]}')
    result = models(capsys, root, "verify")
    assert (result.code, "models.lock.json is damaged" in result.error) == (7, True)
    (root / lockfile.LOCK_NAME).write_text('{"format": 2, "files": []}')
    assert "another version (2)" in models(capsys, root, "list").error
    assert cli(capsys, "--models-dir", root, *SONG, tmp_path).code == 0
