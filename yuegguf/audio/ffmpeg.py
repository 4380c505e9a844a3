"""Audio files that an installed ffmpeg encodes: opus and m4a."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import RequestError, StorageError

ENCODERS = {"opus": ("libopus", "160k", "opus"), "m4a": ("aac", "192k", "ipod")}
"""Format → ffmpeg's encoder, bits a second, container."""
LIST_SECONDS = 30.0
"""Maximum time in which ffmpeg lists its encoders."""
INSTALL = "install it (apt install ffmpeg, brew install ffmpeg, winget install ffmpeg), or use flac or mp3"


def check_encoder(format: str) -> None:
    """Raise RequestError unless an installed ffmpeg encodes a format of ENCODERS."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise RequestError(f"{format} files are written by ffmpeg, which is not installed", INSTALL)
    try:
        encoders = _encoders(program)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RequestError(f"the installed ffmpeg ({program}) does not run", INSTALL) from error
    if ENCODERS[format][0] not in encoders:
        raise RequestError(
            f"the installed ffmpeg has no encoder {ENCODERS[format][0]} for {format} files", "use flac or mp3"
        )


@lru_cache(maxsize=4)
def _encoders(program: str) -> frozenset[str]:
    """Names of the audio encoders of an ffmpeg; none of one that fails. Raises OSError, TimeoutExpired."""
    done = subprocess.run(
        [program, "-hide_banner", "-encoders"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIST_SECONDS,
    )
    lines = (line.split() for line in done.stdout.decode(errors="replace").splitlines())
    return frozenset(words[1] for words in lines if len(words) > 1 and words[0].startswith("A"))


def encode(path: Path, format: str, blocks: Iterable[NDArray[np.float32]], rate: int, channels: int) -> None:
    """Encode blocks of samples [S] or [S, channels] at `rate` Hz into a new file.

    The same samples give the same bytes. Raises StorageError.
    """
    encoder, bits, container = ENCODERS[format]
    source = ["-f", "f32le", "-ar", str(rate), "-ac", str(channels), "-i", "pipe:0"]
    exact = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact"]
    target = ["-c:a", encoder, "-b:a", bits, "-f", container, f"file:{path}"]
    command = [shutil.which("ffmpeg") or "ffmpeg", "-nostdin", "-v", "error", *source, *exact, *target]
    with tempfile.TemporaryFile(prefix="yuegguf-") as said:
        try:
            with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said) as process:
                _feed(process, blocks)
        except OSError as error:
            raise StorageError(f"ffmpeg could not be run ({error.strerror})", INSTALL) from error
        if process.returncode:
            said.seek(0)
            lines = said.read(1 << 16).decode(errors="replace").strip().splitlines()
            reason = lines[-1][:200] if lines else f"exit code {process.returncode}"
            full = "No space left" in reason
            raise StorageError(
                f"{path.name} could not be written by ffmpeg ({reason})",
                "free some space and try again" if full else "check the disk, or use flac or mp3",
            )


def _feed(process: subprocess.Popen[bytes], blocks: Iterable[NDArray[np.float32]]) -> None:
    """Write samples to ffmpeg; one that ends early says why on its stderr."""
    assert process.stdin
    try:
        for block in blocks:
            process.stdin.write(np.clip(block, -1, 1).astype("<f4").tobytes())
    except BrokenPipeError:
        pass
    except BaseException:
        process.kill()
        raise
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
