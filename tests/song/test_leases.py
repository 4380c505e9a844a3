"""One process works in a song folder that machines share: a paused one that wakes up late changes nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_cluster import abandoned
from helpers import PROGRAMS, new_song
from paused import TITLE

from yuegguf.errors import FolderBusy, StorageError
from yuegguf.files import atomic
from yuegguf.song import lease
from yuegguf.song.folder import SongFolder
from yuegguf.song.lease import leased, read_lease
from yuegguf.song.library import summarise
from yuegguf.song.lookup import newest_interrupted

MOMENTS = ("workspace", "look", "rename", "append", "reopen")


@contextmanager
def paused(folder: Path, moment: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease of a song and is stopped at a moment of a write."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(PROGRAMS)}
    command = [sys.executable, "-m", "paused", str(folder), moment]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), status
        yield process
    finally:
        process.kill()
        process.wait()


def woken(process: subprocess.Popen[str]) -> str:
    """What a paused process says once it goes on to its end."""
    process.send_signal(signal.SIGCONT)
    return process.communicate(timeout=60)[0].strip()


def holder(folder: Path) -> str:
    found = read_lease(folder)
    return found.holder.unit if found and found.holder else ""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot pause a process")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_paused_process_that_wakes_up_late_changes_nothing(moment: str, tmp_path: Path) -> None:
    folder = new_song(tmp_path)
    with paused(folder.path, moment) as late:
        kept = [7] if moment == "append" else []
        lost = read_lease(folder.path)
        with leased(folder.path, "unit 2", "there", lost), folder.claimed(by_lease=True):
            with closing(folder.token_log()) as log:
                assert list(log.codes(0)) == kept
                log.append(0, 5)
            folder.advance("draft", title="ours")
            ours = {name: (folder.path / name).read_bytes() for name in ("song.json", "tokens.log")}
            assert woken(late) == f"another machine has taken over {folder.path}"
            assert {name: (folder.path / name).read_bytes() for name in ours} == ours
            assert holder(folder.path) == "unit 2"
            folder.advance("draft", title="ours again")  # the late one has not broken what we hold
    assert SongFolder.open(folder.path).record.title == "ours again"
    assert TITLE not in ours["song.json"].decode()
    assert sorted(path.name for path in folder.path.iterdir()) == ["song.json", "tokens.log"]


def test_a_process_that_was_not_taken_over_goes_on_after_its_pause(tmp_path: Path) -> None:
    folder = new_song(tmp_path)
    with paused(folder.path, "rename") as late:
        with pytest.raises(FolderBusy), leased(folder.path, "unit 2", "there"):
            raise AssertionError
        assert woken(late) == "written"
    assert SongFolder.open(folder.path).record.title == TITLE
    assert read_lease(folder.path) is None


def test_only_the_lease_that_was_looked_at_is_taken_over(tmp_path: Path) -> None:
    folder = new_song(tmp_path)
    with leased(folder.path, "unit 1", "a"):
        first = read_lease(folder.path)
        with leased(folder.path, "unit 2", "b", first):
            with pytest.raises(FolderBusy), leased(folder.path, "unit 3", "c", first):
                raise AssertionError
            assert holder(folder.path) == "unit 2"
    assert read_lease(folder.path) is None
    with pytest.raises(FolderBusy), leased(folder.path, "unit 3", "c", first):  # it was given back meanwhile
        raise AssertionError


def test_a_holder_gives_signs_of_life_with_its_progress_until_it_is_taken_over(tmp_path: Path) -> None:
    folder = new_song(tmp_path)
    with leased(folder.path, "unit 1", "a") as held:
        held.beat("draft", 3, 10, "verse")
        seen = read_lease(folder.path)
        assert seen is not None
        assert seen.holder is not None
        facts = (seen.holder.beat, seen.holder.phase, seen.holder.done, seen.holder.total, seen.holder.note)
        assert facts == (1, "draft", 3, 10, "verse")
        with leased(folder.path, "unit 2", "b", seen):
            with pytest.raises(FolderBusy, match="has taken over"):
                held.beat("draft", 4, 10)
            with pytest.raises(FolderBusy):
                held.check()
    assert read_lease(folder.path) is None


def test_a_command_outside_of_the_cluster_waits_for_a_lease_and_ends_one_without_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = new_song(tmp_path)
    with leased(folder.path, "unit 1", "machine-7") as held:
        with pytest.raises(FolderBusy, match="machine-7"), folder.claimed():
            raise AssertionError
        monkeypatch.setattr(lease, "STALE_SECONDS", 0.0)
        with folder.claimed():
            assert read_lease(folder.path) is None
        with pytest.raises(StorageError, match="has taken over"):
            held.check()


def test_a_song_with_a_lease_is_in_work_until_the_lease_gives_no_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = new_song(tmp_path), new_song(tmp_path)
    os.utime(older.path / "song.json", (1, 1))
    with leased(newer.path, "unit 1", "machine-7"):
        assert newest_interrupted(tmp_path) == older.path
        assert (summarise(newer.path).busy, summarise(newer.path).next_command) == (True, ())
        assert not summarise(older.path).busy
        monkeypatch.setattr(lease, "STALE_SECONDS", 0.0)
        assert newest_interrupted(tmp_path) == newer.path
        assert summarise(newer.path).next_command == ("resume", str(newer.path))


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_signs_of_life_are_dated_by_the_clock_of_the_storage(
    ahead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = new_song(tmp_path)
    with leased(folder.path, "unit 1", "machine-7") as held:
        held.beat()
        before = sorted(folder.path.iterdir())
        plain = time.time
        monkeypatch.setattr(lease, "time", SimpleNamespace(time=lambda: plain() + ahead))
        assert lease.is_in_work(folder.path)
        with pytest.raises(FolderBusy, match="machine-7"), folder.claimed():
            raise AssertionError
        assert sorted(folder.path.iterdir()) == before
        old = plain() - 2 * lease.STALE_SECONDS
        for path in (folder.path / "lease/000001", folder.path / "lease/000001/holder.json"):
            os.utime(path, (old, old))
        assert not lease.is_in_work(folder.path)


def test_a_lock_is_broken_also_behind_a_takeover_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a storage without locks of the system a file stands for the lock, and outlives its process."""

    def refused(*args: object, **options: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(atomic.FileLock, "acquire", refused)
    folder = new_song(tmp_path)
    abandoned(folder.path, "unit 1").beat()
    (folder.path / ".lock.held").write_text("4711\nanother-host\n")
    (folder.path / "lease" / "000002").mkdir()  # and nothing more
    with (
        leased(folder.path, "unit 3", "c", read_lease(folder.path)),
        SongFolder.open(folder.path).claimed(by_lease=True),
    ):
        folder.advance("draft", title="ours")
    assert sorted(path.name for path in folder.path.iterdir()) == ["song.json"]


def test_a_lease_does_not_break_the_lock_of_a_command(tmp_path: Path) -> None:
    folder = new_song(tmp_path)
    with (
        folder.claimed(),
        pytest.raises(FolderBusy),
        leased(folder.path, "unit 1", "a"),
        SongFolder.open(folder.path).claimed(by_lease=True),
    ):
        raise AssertionError
    assert read_lease(folder.path) is None


def test_a_lease_that_goes_while_it_is_looked_at_is_none_and_its_successor_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = new_song(tmp_path)
    seen: Iterator[list[int]] = iter(([4], [], [4], [5]))
    monkeypatch.setattr(lease, "_numbers", lambda path: next(seen))
    assert read_lease(folder.path) is None
    (folder.path / "lease" / "000005").mkdir(parents=True)
    found = read_lease(folder.path)
    assert (found and found.number, next(seen, None)) == (5, None)


def test_a_lease_that_changes_at_each_look_is_one_that_was_just_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = new_song(tmp_path)
    seen: Iterator[list[int]] = iter([number] for number in range(4, 4 + 2 * lease.LOOKS))
    monkeypatch.setattr(lease, "_numbers", lambda path: next(seen))
    assert read_lease(folder.path) == lease.Lease(3 + lease.LOOKS, None, 0.0)
    with pytest.raises(FolderBusy), leased(folder.path, "unit", "here"):
        raise AssertionError
    assert not (folder.path / "lease").exists()


def test_no_lease_is_made_beside_one_that_was_taken_over_since_it_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = new_song(tmp_path)
    with (
        leased(folder.path, "unit 1", "a"),
        leased(folder.path, "unit 2", "b", read_lease(folder.path)) as held,
    ):
        with monkeypatch.context() as late:
            late.setattr(lease, "read_lease", lambda path: None)  # it looked before both
            with pytest.raises(FolderBusy), leased(folder.path, "unit 3", "c"):
                raise AssertionError
        assert [path.name for path in (folder.path / "lease").iterdir()] == ["000002"]
        held.check()
    assert read_lease(folder.path) is None


def dead_holder(folder: SongFolder, *, locked: bool = True) -> None:
    """What a machine that is lost leaves on a storage without locks of the system."""
    held = abandoned(folder.path, "unit 1")
    if locked:
        held.beat("draft", 1, 9)
    for name in (".lock", ".lock.held"):
        (folder.path / name).write_text("4711\nanother-host\n")


@pytest.fixture
def no_system_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system on which flock does not work."""

    def refuse(lock: atomic.FileLock, *args: object, **options: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(atomic.FileLock, "acquire", refuse)


@pytest.mark.usefixtures("no_system_locks")
def test_the_lock_of_a_lost_machine_on_a_storage_without_locks_is_broken_with_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, resumed = (new_song(tmp_path / name) for name in ("taken", "resumed"))
    for folder in (taken, resumed):
        dead_holder(folder)
    with leased(taken.path, "unit 2", "b", read_lease(taken.path)), taken.claimed(by_lease=True):
        taken.advance("draft", title="ours")
    with pytest.raises(FolderBusy, match="elsewhere"), resumed.claimed():
        raise AssertionError
    monkeypatch.setattr(lease, "STALE_SECONDS", 0.0)
    with resumed.claimed():
        resumed.advance("draft", title="ours")
        with (
            pytest.raises(FolderBusy),
            leased(resumed.path, "unit 3", "c"),
            SongFolder.open(resumed.path).claimed(by_lease=True),
        ):
            raise AssertionError
    for folder in (taken, resumed):
        assert SongFolder.open(folder.path).record.title == "ours"
        assert [path.name for path in folder.path.iterdir()] == ["song.json"]


@pytest.mark.usefixtures("no_system_locks")
def test_a_takeover_breaks_no_lock_that_the_lost_machine_had_not_got(tmp_path: Path) -> None:
    """Then a command beside the cluster holds it."""
    folder = new_song(tmp_path)
    dead_holder(folder, locked=False)
    for unit in ("unit 2", "unit 3"):
        with (
            pytest.raises(FolderBusy),
            leased(folder.path, unit, "b", read_lease(folder.path)),
            folder.claimed(by_lease=True),
        ):
            raise AssertionError
    left = {name: (folder.path / name).read_text() for name in (".lock", ".lock.held")}
    assert set(left.values()) == {"4711\nanother-host\n"}
