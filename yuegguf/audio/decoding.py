"""Decoding by an installed ffmpeg of files that libsndfile does not read.

The samples go into unnamed temporary files, which end with the process. A few kilobytes can hold hours in
many channels, so the bytes of one file, of all kept ones and the time are limited.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import threading
from io import FileIO
from pathlib import Path
from weakref import finalize

from yuegguf.errors import RequestError, StorageError
from yuegguf.files.atomic import free_disk
from yuegguf.files.sizes import size_text

HINT = "use a wav, flac, mp3 or ogg file that plays elsewhere"
MAX_SECONDS = 6 * 3600
"""Maximum length of a recording: a compressed file of a megabyte can hold days."""
RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Sample rates of decoded files in Hz; another one becomes the nearest of them."""
MAX_BYTES = (MAX_SECONDS + 1) * RATES[-1] * 2 * 4
"""Maximum bytes of a decoded file: stereo of the greatest length and rate."""
KEPT_BYTES, KEPT_FILES = 2 << 30, 4
"""Maximum bytes and number of decoded files that are kept for the next reader; the last one always is."""
FREE_SHARE = 2
"""A decoded file may take one part in so many of the free space."""
TIMEOUT_SECONDS = 1800.0
"""Maximum time of ffmpeg for one file."""

_Key = tuple[Path, str, int, int]


class _Decoded:
    """Float samples of a file in an unnamed temporary file, which ends with this object."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile(prefix="yuegguf-")  # noqa: SIM115  closed by the line below
        finalize(self, self.file.close)

    @property
    def bytes(self) -> int:
        """Bytes of the file."""
        return os.fstat(self.file.fileno()).st_size


_KEPT: dict[_Key, _Decoded] = {}
"""Decoded files, the one that was used last at the end."""
_LOCK = threading.Lock()


def decoded_by_ffmpeg(path: Path, kind: str, demuxer: str) -> FileIO:
    """The samples of a file as a Sun audio file; `kind` is its kind for messages.

    Raises RequestError, StorageError where the temporary folder lacks room, OSError.
    """
    state = os.stat(path)
    key = path, demuxer, state.st_mtime_ns, state.st_size
    with _LOCK:
        decoded = _KEPT.pop(key, None)
    if decoded is None:
        decoded = _decode(path, kind, demuxer)
    with _LOCK:
        _KEPT[key] = decoded
        while len(_KEPT) > 1 and _too_much():
            del _KEPT[next(iter(_KEPT))]
    return FileIO(os.dup(decoded.file.fileno()))


def _too_much() -> bool:
    return len(_KEPT) > KEPT_FILES or sum(each.bytes for each in _KEPT.values()) > KEPT_BYTES


def forget_decoded() -> None:
    """Drop all decoded files."""
    with _LOCK:
        _KEPT.clear()


def _decode(path: Path, kind: str, demuxer: str) -> _Decoded:
    """A file decoded by ffmpeg. Raises RequestError, StorageError."""
    program = shutil.which("ffmpeg")
    if program is None:
        into = f"{path.stem}.wav" if path.suffix.lower() != ".wav" else f"{path.stem}-decoded.wav"
        command = f"ffmpeg -i {shlex.quote(path.name)} {shlex.quote(into)}"
        raise RequestError(
            f"{path} is {kind}, which only an installed ffmpeg reads",
            f"install ffmpeg, or convert it elsewhere: {command}",
        )
    decoded = _Decoded()
    room = free_disk(Path(tempfile.gettempdir())) // FREE_SHARE
    most = min(MAX_BYTES, room)
    try:
        done = subprocess.run(
            [program, *_arguments(path, demuxer, most)],
            stdin=subprocess.DEVNULL,
            stdout=decoded.file,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise RequestError(
            f"ffmpeg did not decode {path} in {TIMEOUT_SECONDS / 60:.0f} minutes", HINT
        ) from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1][:200] if lines else f"exit code {done.returncode}"
        if "No space left" in reason:
            raise _no_room(path)
        raise RequestError(f"ffmpeg could not decode {path} ({reason})", HINT)
    _check_size(path, decoded.bytes, most)
    return decoded


def _arguments(path: Path, demuxer: str, most: int) -> list[str]:
    """ffmpeg's arguments, by which it writes hardly more than `most` bytes to stdout."""
    # the demuxer is named and files alone may be opened, so that no playlist reaches elsewhere
    options = ["-nostdin", "-v", "error", "-protocol_whitelist", "file,fd,pipe"]
    source = ["-f", demuxer, "-i", f"file:{path}", "-map", "0:a:0", "-vn", "-t", str(MAX_SECONDS + 1)]
    rates = f"aformat=sample_rates={'|'.join(map(str, RATES))}"
    target = ["-af", rates, "-fs", str(most), "-f", "au", "-c:a", "pcm_f32be", "pipe:1"]
    return [*options, *source, *target]


def _check_size(path: Path, size: int, most: int) -> None:
    """Refuse a file that ffmpeg cut off at `most` bytes. Raises RequestError, StorageError."""
    if size < most:
        return
    if most < MAX_BYTES:
        raise _no_room(path)
    raise RequestError(
        f"{path} has more than {size_text(MAX_BYTES)} of samples", "cut out the part that you need"
    )


def _no_room(path: Path) -> StorageError:
    return StorageError(f"there is no room to decode {path}", "set TMPDIR to a folder with room")
