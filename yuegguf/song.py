"""The song folder: everything a song is, and everything needed to go on with it after a crash.

song.json          the request, the models, the plan, how far it is
tokens.log         every draw of stage 1, as it came
reference.npy      codes of the style reference, if there is one
base.npz           what the song goes on from, if it goes on from another
track.npz          codes of the given track, if there is one, and its recording
cache/             stage 1's caches from time to time (deleted when stage 1 is done)
stage1.npz         codes [2, T] of codebook 0, frames per section
chunks/            finished 6 s chunks of stage 2 (deleted when stage 2 is done)
stage2.npz         codes [2, 8, T]
preview.wav        what stage 1 has drawn so far, if that was asked for
draft.*, draft-vocals.*, draft-instrumental.*
mix.*, vocals.*, instrumental.*, markers.txt, lyrics.lrc
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from yuegguf import __version__
from yuegguf.arrays import check_codes, load_array, load_arrays, save_array, save_arrays
from yuegguf.audio import CREDIT
from yuegguf.codec.base import CODEBOOKS, FRAME_RATE
from yuegguf.early import Early
from yuegguf.errors import DamagedFile, RequestError, StorageError, YueError
from yuegguf.files import replacing, storage_errors, sweep
from yuegguf.request import SongRequest, SungSection
from yuegguf.tokenlog import TokenLog

FORMAT = 1
STATES = ("draft", "refine", "master", "done")


class SongFolder:
    """One song on disk. Every file but the log is written beside and renamed."""

    def __init__(self, path: Path, data: dict[str, Any]) -> None:
        self.path = path
        self._data = data
        self._lock: int | None = None

    @classmethod
    def create(cls, parent: Path, name: str, request: SongRequest, facts: Mapping[str, Any]) -> Self:
        """Make a new folder `<name>-<id>`; `facts` (models, plan) go into song.json. Raises StorageError."""
        return cls.create_at(new_path(parent, name), request, facts)

    @classmethod
    def create_at(cls, path: Path, request: SongRequest, facts: Mapping[str, Any]) -> Self:
        """Make this new folder. Raises StorageError."""
        with storage_errors(path):
            path.mkdir(parents=True)
        data = {
            "format": FORMAT,
            "made_with": f"yuegguf {__version__}",
            "credit": CREDIT,
            "state": "draft",
            "request": request.to_json(),
            **facts,
        }
        folder = cls(path, data)
        try:
            folder._write()
        except StorageError:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return folder

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing folder. Raises RequestError (no song there), DamagedFile."""
        file = path / "song.json"
        if not file.is_file():
            raise RequestError(f"{path} is not a song folder", "pass a folder that holds a song.json")
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            version = data["format"]
            if isinstance(version, int) and version > FORMAT:
                raise DamagedFile(f"{path} was made by a newer yuegguf", "update yuegguf to open it")
            if version != FORMAT or data["state"] not in STATES:
                raise ValueError(f"format {version!r}, state {data.get('state')!r}")
            SongRequest.from_json(data["request"])
            Early.from_json(data.get("early"))
        except (ValueError, KeyError, TypeError, AttributeError, RequestError) as error:
            raise DamagedFile(
                f"{file} is damaged ({error})", "restore it from a copy; nothing was changed"
            ) from error
        return cls(path, data)

    @property
    def state(self) -> str:
        """Which phase comes next: draft, refine, master, or done."""
        return str(self._data["state"])

    @property
    def request(self) -> SongRequest:
        """What was asked."""
        return SongRequest.from_json(self._data["request"])

    @property
    def early(self) -> Early:
        """What is to be heard before the song is finished."""
        return Early.from_json(self._data.get("early"))

    @property
    def rests(self) -> bool:
        """Whether the draft that was asked for is done, so that the next step is the user's."""
        return bool(self.state == "refine" and self.early.draft and self.fact("draft_files"))

    def fact(self, name: str) -> Any:
        """A value of song.json, such as "plan" or "models"; None if it is not there."""
        return self._data.get(name)

    def advance(self, state: str, **facts: Any) -> None:
        """Enter the next phase and note facts, in one atomic write."""
        self._data = {**self._data, **facts, "state": state}
        self._write()

    def _write(self) -> None:
        text = json.dumps(self._data, indent=2, ensure_ascii=False) + "\n"
        with replacing(self.path / "song.json") as beside:
            beside.write_text(text, encoding="utf-8")

    def lock(self) -> None:
        """Claim the folder until `unlock` or the process's end, and read song.json again.

        With the claim goes what a killed process left half written. Raises StorageError when another
        process holds the folder, DamagedFile or RequestError when song.json was spoilt since `open`.
        """
        if self._claim():
            sweep(self.path)
        try:  # whoever held the folder until now may have taken the song further
            self._data = type(self).open(self.path)._data
        except YueError:
            self.unlock()
            raise

    def _claim(self) -> bool:
        """Whether the folder is ours alone; not every system can tell."""
        try:
            import fcntl
        except ImportError:  # Windows: no advisory locks of this kind
            return False
        with storage_errors(self.path):
            self._lock = os.open(self.path, os.O_RDONLY)  # not song.json, which is replaced as we work
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.unlock()
            raise StorageError(
                f"{self.path} is being worked on by another yuegguf", "wait for it to end"
            ) from error
        except OSError:  # some network file systems know no locks, and a song can be made there as well
            self.unlock()
            return False
        return True

    def unlock(self) -> None:
        """Give the folder free, so that the same program can resume a song that it stopped."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def token_log(self) -> TokenLog:
        """The log of stage 1's draws. Raises DamagedFile, StorageError."""
        return TokenLog.open(self.path / "tokens.log")

    def save_reference(self, codes: NDArray[np.int16]) -> None:
        """Keep the reference's codes, so that a resume needs no audio file."""
        save_array(self.path / "reference.npy", codes)

    def load_reference(self) -> NDArray[np.int16] | None:
        """The reference's codes [N], or None. Raises DamagedFile."""
        file = self.path / "reference.npy"
        if not file.exists():
            return None
        codes = load_array(file)
        check_codes(codes, (None,), file.name)
        return codes.astype(np.int16)

    def save_stage1(self, frames: Sequence[int], codes: NDArray[np.int16]) -> None:
        """Keep codebook 0 [2, T] and the frames of each section."""
        save_arrays(self.path / "stage1.npz", {"codes": codes, "frames": np.array(frames, np.int64)})

    def load_stage1(self) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """Codebook 0 [2, T] and frames per section. Raises DamagedFile."""
        arrays = load_arrays(self.path / "stage1.npz", ("codes", "frames"))
        codes, frames = arrays["codes"], arrays["frames"]
        check_codes(codes, (2, None), "stage1.npz")
        if frames.sum() != codes.shape[1]:
            raise DamagedFile("stage1.npz is damaged: its sections do not add up")
        return codes.astype(np.int16), frames.astype(np.int64)

    def take_over(self, other: Self) -> None:
        """Copy what another take of this song has heard already, unless it is here. Raises StorageError."""
        for name in ("reference.npy", "track.npz"):
            if (other.path / name).exists() and not (self.path / name).exists():
                with replacing(self.path / name) as beside:
                    shutil.copyfile(other.path / name, beside)
        if self.fact("silence") is None and other.fact("silence") is not None:
            self.advance(self.state, silence=other.fact("silence"))

    def save_track(self, codes: NDArray[np.int16], wave: NDArray[np.float32] | None) -> None:
        """Keep the given track: its codes [8, T], and its recording [882·T] if it has one."""
        save_arrays(self.path / "track.npz", {"codes": codes, **({} if wave is None else {"wave": wave})})

    def load_track(self) -> tuple[NDArray[np.int16], NDArray[np.float32] | None] | None:
        """The given track's codes and recording, or None. Raises DamagedFile."""
        file = self.path / "track.npz"
        if not file.exists():
            return None
        codes = load_arrays(file, ("codes",))["codes"]
        check_codes(codes, (CODEBOOKS, None), "track.npz")
        recorded = self.request.track is not None and self.request.track.file is not None
        wave = load_arrays(file, ("wave",))["wave"] if recorded else None
        return codes.astype(np.int16), wave

    def save_chunk(self, track: int, start: int, codes: NDArray[np.int16]) -> None:
        """Keep a finished chunk [8, frames] of stage 2."""
        folder = self.path / "chunks"
        with storage_errors(folder):
            folder.mkdir(exist_ok=True)
        save_array(self.path / f"chunks/{track}-{start:06d}.npy", codes)

    def load_chunk(self, track: int, start: int, frames: int) -> NDArray[np.int16] | None:
        """A finished chunk, or None. Raises DamagedFile."""
        file = self.path / "chunks" / f"{track}-{start:06d}.npy"
        if not file.exists():
            return None
        codes = load_array(file)
        check_codes(codes, (8, frames), file.name)
        return codes.astype(np.int16)

    def save_stage2(self, codes: NDArray[np.int16]) -> None:
        """Keep all codes [2, 8, T]."""
        save_arrays(self.path / "stage2.npz", {"codes": codes})

    def load_stage2(self) -> NDArray[np.int16]:
        """All codes [2, 8, T]. Raises DamagedFile, RequestError when stage 2 is not done."""
        file = self.path / "stage2.npz"
        if not file.exists():
            raise RequestError(f"{self.path} has no stage2.npz yet", f"run: yuegguf resume {self.path}")
        codes = load_arrays(file, ("codes",))["codes"]
        check_codes(codes, (2, 8, None), "stage2.npz")
        return codes.astype(np.int16)

    def drop(self, name: str) -> None:
        """Delete a folder of intermediate work that is no longer needed."""
        shutil.rmtree(self.path / name, ignore_errors=True)


def sections_of(
    labels: Sequence[str], frames: Sequence[int], complete: Sequence[bool], faults: Mapping[str, str]
) -> list[SungSection]:
    """Section times in seconds from their frames; `faults` by the section's number from 1."""
    starts = np.concatenate([[0], np.cumsum(np.asarray(frames, np.int64))])
    return [
        SungSection(label, float(start) / FRAME_RATE, n / FRAME_RATE, done, faults.get(str(number), ""))
        for number, (label, start, n, done) in enumerate(
            zip(labels, starts, frames, complete, strict=False), 1
        )
    ]


def new_path(parent: Path, name: str) -> Path:
    """Where a song called `name` goes: `<name>-<id>`."""
    return parent / f"{slug(name)}-{secrets.token_hex(3)}"


def slug(text: str) -> str:
    """A short folder name from tags or a title: letters, digits and dashes."""
    words = re.findall(r"\w+", text.lower())
    short = "-".join(words)[:48].strip("-_")
    return short or "song"


def newest_interrupted(parent: Path) -> Path:
    """The song folder in `parent` that was worked on last and is not where it was asked to go.

    A folder that cannot be opened is passed over while there is another one to go on with. Raises its
    DamagedFile when there is not, RequestError when every song is done, or rests as a draft.
    """
    unreadable: YueError | None = None
    rested = False
    folders = (file.parent for file in parent.glob("*/song.json"))
    for folder in sorted(folders, key=_last_work, reverse=True):
        try:
            opened = SongFolder.open(folder)
            if opened.state != "done" and not opened.rests:
                return folder
            rested = rested or opened.rests
        except YueError as error:
            unreadable = unreadable or error
    if unreadable is not None:
        raise unreadable
    hint = "go on with a draft: yuegguf refine SONG" if rested else "pass the song folder to resume"
    raise RequestError(f"there is no interrupted song in {parent}", hint)


def _last_work(folder: Path) -> float:
    """When a song was worked on last, in seconds since 1970; song.json itself changes at phases only."""
    times = [0.0]
    for file in (folder / "song.json", folder / "tokens.log", *folder.glob("chunks/*")):
        with suppress(OSError):  # deleted since it was listed
            times.append(file.stat().st_mtime)
    return max(times)
