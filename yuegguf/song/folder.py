"""The song folder: everything a song consists of, and everything needed to resume it after a crash.

song.json          the request, the models, the plan, the phase reached
tokens.log         every code that stage 1 sampled, in order
reference.npz      codes of the style reference, if there is one
base.npz           the part kept of an earlier song that this one continues
track.npz          codes of the guide track, if there is one, and its recording
cache/             snapshots of stage 1's KV cache (deleted when stage 1 is done)
stage1.npz         codes [2, T] of codebook 0, frames per section
chunks/            finished 6 s chunks of stage 2 (deleted when stage 2 is done)
lease/             which machine of a cluster works on the song (deleted when it has ended)
stage2.npz         codes [2, 8, T]
preview.wav        the codes sampled so far, decoded, if a preview was requested
draft.*, draft-vocals.*, draft-instrumental.*
mix.*, vocals.*, instrumental.*, markers.txt, lyrics.lrc

Every file that a resume reads carries a checksum: its own in song.json, tokens.log and mark.json, zip's in
the arrays.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self, Unpack

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec.protocol import CODEBOOKS, FRAME_RATE, SONG_HOP
from yuegguf.errors import DamagedFile, RequestError, StorageError, quoted
from yuegguf.files.arrays import (
    MAX_SECTIONS,
    array_bytes,
    check_codes,
    check_frames,
    load_arrays,
    save_arrays,
)
from yuegguf.files.atomic import (
    WORKSPACE_PREFIX,
    locked_folder,
    replacing,
    storage_error,
    storage_errors,
    sweep,
)
from yuegguf.files.reading import read_errors
from yuegguf.files.steady import check_steady
from yuegguf.request.prepared import PreparedSong, prepare
from yuegguf.request.preview_options import PreviewOptions
from yuegguf.request.song_request import FinishedSection, SongRequest
from yuegguf.song.conditioning import TRACK_HINT, check_recording, check_reference
from yuegguf.song.guard import TAKE_NAME, check_entries
from yuegguf.song.kept_part import KeptPart, check_log_prefix, read_kept_part
from yuegguf.song.lease import locked_without_lease
from yuegguf.song.record import Phase, RecordChanges, SongRecord, read_record
from yuegguf.song.token_log import TokenLog


class SongFolder:
    """One song on disk. Every file but the log and the preview is replaced atomically."""

    def __init__(self, path: Path, record: SongRecord) -> None:
        self.path = path
        self.record = record
        """Content of song.json when it was last read or written."""
        self._claimed = False
        self._song: PreparedSong | None = None

    @classmethod
    def create(cls, path: Path, record: SongRecord) -> Self:
        """Create the folder with its song.json; leaves nothing behind on failure. Raises StorageError."""
        with storage_errors(path):
            path.mkdir(parents=True)
        folder = cls(path, record)
        try:
            folder._write()
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return folder

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing folder. Raises RequestError (no song there), DamagedFile."""
        file = path / "song.json"
        with read_errors(file):
            if not file.is_file():
                raise _no_song(path)
            check_entries(path)
            return cls(path, read_record(file))

    @property
    def state(self) -> Phase:
        """Phase that comes next: draft, refine, master, or done."""
        return self.record.state

    @property
    def request(self) -> SongRequest:
        """The request that the song was started with."""
        return self.record.request

    @property
    def song(self) -> PreparedSong:
        """The request with its lyrics parsed. Raises RequestError where they cannot be."""
        if self._song is None or self._song.request is not self.record.request:
            self._song = prepare(self.record.request)
        return self._song

    @property
    def early(self) -> PreviewOptions:
        """Draft and preview options."""
        return self.record.early

    @property
    def draft_complete(self) -> bool:
        """Whether a requested draft is done, so that the song waits for `refine`."""
        return bool(self.state == "refine" and self.early.draft and self.record.draft_files)

    @property
    def title(self) -> str:
        """The title for tags and lyrics."""
        return self.record.title or self.request.genre

    def advance(self, state: Phase, **changes: Unpack[RecordChanges]) -> None:
        """Enter the next phase and change other fields of song.json, in one atomic write."""
        self.record = self.record.changed(state=state, **changes)
        self._write()

    def _write(self) -> None:
        content = self.record.to_bytes()
        with replacing(self.path / "song.json") as beside:
            beside.write_bytes(content)

    @contextmanager
    def claimed(self, *, by_lease: bool = False) -> Iterator[None]:
        """Lock the folder for this process and read song.json again; may be nested.

        Removes what a killed process left half written. `by_lease`: this process holds a lease of it too.
        Raises StorageError when another process holds the lock, or a machine a lease, or the folder is not
        writable; DamagedFile or RequestError when song.json was damaged since `open`.
        """
        if self._claimed:
            yield
            return
        with claimed_folder(self.path, by_lease=by_lease):
            self.record = type(self).open(self.path).record  # another process may have continued the song
            self._claimed = True
            try:
                yield
            finally:
                self._claimed = False

    def tidy(self) -> None:
        """Remove what a process left that was killed after the song was finished; ignores StorageError."""
        if not self._claimed and (
            (self.path / ".lock").exists() or any(self.path.glob(f"{WORKSPACE_PREFIX}*"))
        ):
            with suppress(StorageError), self.claimed():
                pass

    def token_log(self) -> TokenLog:
        """The log of stage 1's codes. Raises StorageError, DamagedFile also when the kept part is missing."""
        check_steady(self.path / "tokens.log")
        if (kept := self.load_kept_part()) is not None:
            with storage_errors(self.path):
                check_log_prefix(self.path / "tokens.log", kept)
        return TokenLog.open(self.path / "tokens.log")

    def load_kept_part(self) -> KeptPart | None:
        """The part kept of an earlier song; None for a new song. Raises DamagedFile when it is missing."""
        kept = read_kept_part(self.path)
        if kept is None and self.record.origin is not None:
            raise DamagedFile(
                f"{self.path} has lost the part of the song that it continues",
                "restore its base.npz from a copy",
            )
        return kept

    def frame_caps(self) -> list[int]:
        """Most frames of each section; of kept ones, what they have. Raises DamagedFile."""
        kept = self.load_kept_part()
        return kept.caps(self.song.caps) if kept else list(self.song.caps)

    def save_reference(self, codes: NDArray[np.int16]) -> None:
        """Save the reference's codes [N], so that a resume needs no audio file."""
        save_arrays(self.path / "reference.npz", {"codes": codes})

    def load_reference(self) -> NDArray[np.int16] | None:
        """The codes [N] of the request's reference, or None. Raises DamagedFile."""
        file, reference = self.path / "reference.npz", self.request.reference
        if reference is None or not file.exists():
            return None
        codes = load_arrays(file, ("codes",), array_bytes(2 * reference.frames))["codes"]
        check_codes(codes, (None,), file.name)
        check_reference(codes, reference, file.name)
        return codes.astype(np.int16)

    def save_stage1(self, frames: Sequence[int], codes: NDArray[np.int16]) -> None:
        """Save codebook 0 [2, T] and the frames of each section."""
        save_arrays(self.path / "stage1.npz", {"codes": codes, "frames": np.array(frames, np.int64)})

    def load_stage1(self) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """Codebook 0 [2, T] and the frames of each section. Raises DamagedFile."""
        frames = self.load_section_frames()
        most = array_bytes(2 * sum(frames.tolist()))
        codes = load_arrays(self.path / "stage1.npz", ("codes",), most)["codes"]
        check_codes(codes, (2, None), "stage1.npz")
        check_frames(frames, codes.shape[1], "stage1.npz")
        return codes.astype(np.int16), frames

    def load_section_frames(self) -> NDArray[np.int64]:
        """The frames of each section of stage 1, without its codes. Raises DamagedFile."""
        most = array_bytes(MAX_SECTIONS)
        frames = load_arrays(self.path / "stage1.npz", ("frames",), most)["frames"]
        check_frames(frames, None, "stage1.npz")
        return frames.astype(np.int64)

    def copy_encodings(self, other: Self) -> None:
        """Copy another take's reference, guide track and silence code, if missing. Raises StorageError."""
        for name in ("reference.npz", "track.npz"):
            if (other.path / name).exists() and not (self.path / name).exists():
                with replacing(self.path / name) as beside:
                    shutil.copyfile(other.path / name, beside)
        if self.record.silence is None and other.record.silence is not None:
            self.advance(self.state, silence=other.record.silence)

    def save_guide_track(self, codes: NDArray[np.int16], wave: NDArray[np.float32] | None) -> None:
        """Save the guide track: its codes [8, T], and its recording [882·T] if it has one."""
        save_arrays(self.path / "track.npz", {"codes": codes, **({} if wave is None else {"wave": wave})})

    def load_guide_track(self) -> tuple[NDArray[np.int16], NDArray[np.float32] | None] | None:
        """The codes and the recording of the request's guide track, or None. Raises DamagedFile."""
        file, track = self.path / "track.npz", self.request.track
        if track is None or not file.exists():
            return None
        needed = self._guided_frames()
        most = max(needed, sum(self.song.caps))  # another song of the request may have encoded it
        codes = load_arrays(file, ("codes",), array_bytes(CODEBOOKS * most))["codes"]
        check_codes(codes, (CODEBOOKS, None), file.name)
        frames = codes.shape[1]
        if frames < needed:
            raise DamagedFile(f"{file.name} has {frames} frames, of {needed} of the song", TRACK_HINT)
        wave = None
        if track.file is not None:
            wave = load_arrays(file, ("wave",), array_bytes(SONG_HOP * frames))["wave"]
            check_recording(wave, frames, file.name)
        return codes.astype(np.int16), wave

    def _guided_frames(self) -> int:
        """Frames for which the guide track is needed: those drafted, or the most that the draft may have."""
        if self.state != "draft" and (self.path / "stage1.npz").exists():
            return int(self.load_section_frames().sum())
        return sum(self.frame_caps())

    def save_chunk(self, track: int, start: int, codes: NDArray[np.int16]) -> None:
        """Save a finished chunk [8, frames] of stage 2."""
        file = self._chunk(track, start)
        with storage_errors(file.parent):
            file.parent.mkdir(exist_ok=True)
        save_arrays(file, {"codes": codes})

    def load_chunk(self, track: int, start: int, frames: int) -> NDArray[np.int16] | None:
        """A finished chunk [8, frames], or None. Raises DamagedFile."""
        file = self._chunk(track, start)
        if not file.exists():
            return None
        codes = load_arrays(file, ("codes",), array_bytes(CODEBOOKS * frames))["codes"]
        check_codes(codes, (CODEBOOKS, frames), f"chunks/{file.name}")
        return codes.astype(np.int16)

    def _chunk(self, track: int, start: int) -> Path:
        return self.path / "chunks" / f"{track}-{start:06d}.npz"

    def save_stage2(self, codes: NDArray[np.int16]) -> None:
        """Save all codes [2, 8, T]."""
        save_arrays(self.path / "stage2.npz", {"codes": codes})

    def load_stage2(self) -> NDArray[np.int16]:
        """All codes [2, 8, T]. Raises DamagedFile, RequestError when stage 2 is not done."""
        file = self.path / "stage2.npz"
        if not file.exists():
            command = "refine" if self.draft_complete else "resume"  # which does nothing about a draft
            raise RequestError(
                f"{self.path} has no stage2.npz yet", f"run: yuegguf {command} {quoted(self.path)}"
            )
        codes = load_arrays(file, ("codes",))["codes"]
        check_codes(codes, (2, CODEBOOKS, None), "stage2.npz")
        return codes.astype(np.int16)

    def load_codes(self) -> NDArray[np.int16]:
        """Codes [2, 8, T] of a refined song, checked against stage 1's. Raises as `load_stage2` does."""
        codes, (codes0, _) = self.load_stage2(), self.load_stage1()
        if not np.array_equal(codes[:, 0], codes0):
            raise DamagedFile(
                f"{self.path / 'stage2.npz'} does not belong to stage1.npz",
                "delete stage2.npz and resume to make it again",
            )
        return codes

    def delete_folder(self, name: str) -> None:
        """Delete a folder of intermediate work; never follows a link. Raises StorageError."""
        check_steady(self.path / name)
        shutil.rmtree(self.path / name, ignore_errors=True)


@contextmanager
def claimed_folder(path: Path, *, by_lease: bool = False) -> Iterator[None]:
    """Lock a song folder, also a damaged one, and remove what a killed process left half written.

    Raises StorageError as `SongFolder.claimed` does.
    """
    if not os.access(path, os.W_OK):  # a lock file left by a killed process may be writable
        raise storage_error(path, PermissionError(errno.EACCES, ""))
    with (locked_folder if by_lease else locked_without_lease)(path):
        sweep(path)
        sweep(path / "chunks")
        yield


def sections_of(
    labels: Sequence[str], frames: Sequence[int], complete: Sequence[bool], faults: Mapping[str, str]
) -> list[FinishedSection]:
    """Sections with their times in seconds; `faults` by the section's number from 1."""
    starts = np.concatenate([[0], np.cumsum(np.asarray(frames, np.int64))])
    return [
        FinishedSection(label, float(start) / FRAME_RATE, n / FRAME_RATE, done, faults.get(str(number), ""))
        for number, (label, start, n, done) in enumerate(
            zip(labels, starts, frames, complete, strict=False), 1
        )
    ]


def _no_song(path: Path) -> RequestError:
    """The error of a folder without song.json, which may hold takes."""
    found = {file.parent.name for file in path.glob("take-*/song.json")}
    takes = sorted(filter(TAKE_NAME.fullmatch, found), key=lambda name: (len(name), name))
    if not takes:
        return RequestError(f"{path} is not a song folder", "pass a folder that holds a song.json")
    return RequestError(
        f"{path} is not a song but holds takes of one: {', '.join(takes)}",
        f"pass one of them, or make whole songs of some with: yuegguf takes keep {quoted(path)} 1",
    )
