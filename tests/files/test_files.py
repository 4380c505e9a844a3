"""The atomic writer, the workspaces of dead processes, and claims, on every system."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from yuegguf.errors import StorageError
from yuegguf.files import atomic
from yuegguf.files.atomic import (
    OWNER_LOCK,
    UNOWNED_PREFIX,
    WORKSPACE_PREFIX,
    WORKSPACE_SUFFIX,
    locked_folder,
    replacing,
    sweep,
)


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with replacing(target) as beside:
        beside.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def write_half(target: Path) -> None:
    with replacing(target) as beside:
        beside.write_text("half")
        raise ZeroDivisionError


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_half(target)
    assert (target.read_text(), list(tmp_path.iterdir())) == ("old", [target])


def test_a_new_file_may_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with replacing(tmp_path / "a.txt") as beside:
            beside.write_text("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    canary, link = tmp_path / "canary", tmp_path / "song" / "mix.wav"
    canary.write_text("mine")
    link.parent.mkdir()
    link.symlink_to(canary)
    with replacing(link) as beside:
        beside.write_text("new")
    assert canary.read_text() == "mine"
    assert not link.is_symlink()


def test_the_longest_file_name_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 255)
    with replacing(target) as beside:
        beside.write_text("x")
    assert target.read_text() == "x"


def test_writers_of_one_name_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Threads and processes that share a volume, all writing one file, all succeed."""
    gate = threading.Barrier(8)
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            gate.wait(30)
            for _ in range(15):
                with replacing(tmp_path / "song.json") as beside:
                    beside.write_text(str(number) * 1000)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    text = (tmp_path / "song.json").read_text()
    assert text == text[0] * 1000
    assert [path.name for path in tmp_path.iterdir()] == ["song.json"]


def killed_inside(code: str, folder: Path) -> None:
    """Run code that prints a line and waits for its end, and kill it there."""
    command = [sys.executable, "-c", "import sys\nfrom pathlib import Path\n" + code, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"inside\n"
        process.send_signal(signal.SIGKILL)


WRITING = """
from yuegguf.files.atomic import replacing
with replacing(Path(sys.argv[1]) / "mix.wav") as beside:
    beside.write_bytes(b"half")
    print("inside", flush=True)
    sys.stdin.read()
"""


def test_the_next_write_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    killed_inside(WRITING, tmp_path)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(WORKSPACE_PREFIX)
    with replacing(tmp_path / "other.txt") as beside:
        beside.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


def test_a_workspace_that_never_got_its_owner_goes_when_it_is_old(tmp_path: Path) -> None:
    places = {
        name: tmp_path / f"{UNOWNED_PREFIX}{name}{WORKSPACE_SUFFIX}" for name in ("empty", "locked", "new")
    }
    for place in places.values():
        place.mkdir()
    (places["locked"] / OWNER_LOCK).touch()
    for name in ("empty", "locked"):
        os.utime(places[name], (0, 0))
    with replacing(tmp_path / "song.json") as beside:
        beside.write_text("new")
    assert sorted(tmp_path.iterdir()) == [places["new"], tmp_path / "song.json"]


def test_the_workspace_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as first:
        first.write_text("a")
        sweep(tmp_path)
        with replacing(tmp_path / "b") as second:
            second.write_text("b")
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("a", "b")


def test_sweep_follows_no_link(tmp_path: Path) -> None:
    mine, song = tmp_path / "mine", tmp_path / "song"
    (mine / "deep").mkdir(parents=True)
    (mine / "deep" / "canary").write_text("mine")
    song.mkdir()
    (song / f"{WORKSPACE_PREFIX}a{WORKSPACE_SUFFIX}").symlink_to(mine)
    inside = song / f"{WORKSPACE_PREFIX}b{WORKSPACE_SUFFIX}"
    inside.mkdir()
    (inside / "deep").symlink_to(mine)
    locked = song / f"{WORKSPACE_PREFIX}c{WORKSPACE_SUFFIX}"
    locked.mkdir()
    (locked / OWNER_LOCK).symlink_to(mine / "deep" / "canary")
    sweep(song)
    assert (mine / "deep" / "canary").read_text() == "mine"
    assert not inside.exists()


def test_one_claim_at_a_time_and_it_ends_with_its_process(tmp_path: Path) -> None:
    another = pytest.raises(StorageError, match="being worked on by another")
    with locked_folder(tmp_path), another, locked_folder(tmp_path):
        raise AssertionError
    killed_inside(
        "from yuegguf.files.atomic import locked_folder\n"
        "with locked_folder(Path(sys.argv[1])):\n    print('inside', flush=True)\n    sys.stdin.read()",
        tmp_path,
    )
    with locked_folder(tmp_path):
        pass


@pytest.mark.parametrize("number", ["ENOSYS", "ENOLCK", "EOPNOTSUPP", "EBADF"])
def test_a_file_system_without_locks_of_the_kernels_can_be_written_to(number: str, tmp_path: Path) -> None:
    """Such as some network mounts: there lock files with the owner's process id take their place."""
    code = (
        "import errno, fcntl, sys\nfrom pathlib import Path\n"
        f"def flock(*_): raise OSError(errno.{number}, 'no locks')\n"
        "fcntl.flock = flock\n"
        "from yuegguf.errors import StorageError\nfrom yuegguf.files.atomic import locked_folder, replacing\n"
        "folder = Path(sys.argv[1])\n"
        "with locked_folder(folder):\n"
        "    with replacing(folder / 'a') as beside:\n        beside.write_text('a')\n"
        "    try:\n        with locked_folder(folder): print('twice')\n"
        "    except StorageError as error: print(error.message)\n"
        "with locked_folder(folder): print('again')"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.stdout.splitlines(), found.stderr) == (
        [f"{tmp_path} is being worked on by another yuegguf", "again"],
        "",
    )
    assert (tmp_path / "a").read_text() == "a"


def test_windows_flushes_files_and_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder cannot be opened there."""
    opened = []

    def opening(path: Path, *_: object) -> int:
        opened.append(path)
        raise PermissionError(errno.EACCES, "a folder", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "open", opening)
        with pytest.raises(PermissionError):
            atomic.flush_folder(tmp_path)
        patch.setattr(atomic.sys, "platform", "win32")
        atomic.flush_folder(tmp_path)
    assert opened == [tmp_path]


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EROFS, "is not writable"),
        (errno.EACCES, "is not writable"),
        (errno.EIO, "could not be written"),
        (errno.EMFILE, "too many files are open; let a process open more, for example: ulimit -n 1024"),
        (errno.ENFILE, "too many files are open"),
    ],
)
def test_what_a_failed_write_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    def fail(*_: object, **_more: object) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic.tempfile, "mkdtemp", fail)
    with pytest.raises(StorageError, match=says), replacing(tmp_path / "a"):
        raise AssertionError


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs on this system")
def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    """As root, `-o /dev/null --force` would replace the device for every program."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        before = (tmp_path / name).lstat()
        with pytest.raises(StorageError, match="not a file that can be replaced"), replacing(tmp_path / name):
            pytest.fail("nothing may be made")
        assert (tmp_path / name).lstat().st_ino == before.st_ino
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]


def test_a_claim_waits_for_a_look_and_not_for_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looking = atomic._lock_file(tmp_path / ".lock")
    assert atomic.is_locked(tmp_path)
    monkeypatch.setattr(atomic.time, "sleep", lambda _seconds: looking.release())
    with atomic.locked_folder(tmp_path):
        assert atomic.is_locked(tmp_path)
        monkeypatch.setattr(atomic.time, "sleep", lambda _seconds: None)
        with pytest.raises(StorageError, match="another yuegguf"), atomic.locked_folder(tmp_path):
            raise AssertionError
    assert not atomic.is_locked(tmp_path)
