"""Saved voices: a style reference as codes, which needs its recording no more.

One small file per voice, `NAME.npz`: codebook 0 of the window (one track, or V0 I0 V1 I1 …), and its origin
as JSON.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.errors import DamagedFile, RequestError
from yuegguf.files import typed_json
from yuegguf.files.arrays import check_codes, load_arrays, save_arrays
from yuegguf.files.atomic import storage_errors
from yuegguf.files.hashing import fingerprint
from yuegguf.files.reading import paths_in
from yuegguf.files.song_work import check_no_song_work
from yuegguf.models import registry

VOICE_FORMAT = 1
MAX_VOICE_BYTES = 2**24
"""Bytes of the largest voice that is read: codes of many hours."""
VOICE_NAME = re.compile(r"\w[\w.-]{0,63}")
"""Allowed names: nothing that could be a path or a hidden file."""


@dataclass(frozen=True)
class _VoiceFacts:
    """The JSON of a voice's file; see Voice."""

    dual: bool
    sources: tuple[str, ...]
    start: float
    codec: str
    saved: str

    def __post_init__(self) -> None:
        if self.start < 0:
            raise ValueError(f"its window starts at {self.start:g}")


@dataclass(frozen=True)
class Voice:
    """A reference without its recording."""

    name: str
    codes: NDArray[np.int16]
    """[N] codebook 0 in stage 1's order."""
    dual: bool
    """Whether vocal and instrumental codes alternate, vocal first."""
    sources: tuple[str, ...]
    """Names of the recordings, without their folders."""
    start: float
    """Seconds into the recording where the window begins."""
    codec: str
    """Hash of the codec's codebooks."""
    saved: str
    """ISO date."""

    @property
    def seconds(self) -> float:
        """Length of the window in seconds."""
        return len(self.codes) / (2 if self.dual else 1) / FRAME_RATE

    @property
    def end(self) -> float:
        """Seconds into the recording where the window ends."""
        return (round(FRAME_RATE * self.start) + round(FRAME_RATE * self.seconds)) / FRAME_RATE

    def to_json(self) -> dict[str, Any]:
        """Everything but the codes."""
        facts = {name: value for name, value in asdict(self).items() if name != "codes"}
        return {**facts, "sources": list(self.sources), "end": self.end, "seconds": self.seconds}


def voice_path(name: str, folder: Path | None = None) -> Path:
    """Path of a voice's file. Raises RequestError for an invalid name."""
    if not VOICE_NAME.fullmatch(name):
        raise RequestError(
            f"{name!r} cannot be the name of a voice", "use up to 64 letters, digits, dots, - and _"
        )
    return (folder or registry.voices_dir()) / f"{name}.npz"


def check_name_free(name: str, replace: bool, folder: Path | None = None) -> Path:
    """Path for a new voice. Raises RequestError for an invalid name, or a used one without `replace`."""
    path = voice_path(name, folder)
    check_no_song_work(path)
    if os.path.exists(path) and not replace:
        raise RequestError(f"there is a voice called {name} already", "choose another name, or pass --force")
    return path


def save_voice(voice: Voice, folder: Path | None = None, replace: bool = False) -> Path:
    """Write a voice. Raises RequestError when the name is used already, StorageError."""
    path = check_name_free(voice.name, replace, folder)
    stored = ("dual", "sources", "start", "codec", "saved")
    facts = {"format": VOICE_FORMAT, **{name: getattr(voice, name) for name in stored}}
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    save_arrays(path, {"codes": voice.codes, "facts": np.frombuffer(json.dumps(facts).encode(), np.uint8)})
    return path


def load_voice(name: str, folder: Path | None = None) -> Voice:
    """Read a voice. Raises RequestError when there is none of this name, DamagedFile."""
    path = _existing_path(name, folder)
    with _damaged_voice(path, name):
        arrays = load_arrays(path, ("codes", "facts"), MAX_VOICE_BYTES)
        check_codes(arrays["codes"], (None,), path.name)
        data = typed_json.read_json(arrays["facts"].tobytes(), dict[str, Any], path, "")
    version = data.pop("format", None)
    if isinstance(version, int) and version > VOICE_FORMAT:
        raise DamagedFile(f"the voice {name} is of another version ({version})", "update yuegguf to use it")
    with _damaged_voice(path, name):
        if version != VOICE_FORMAT:
            raise ValueError(f"its format is {version!r:.80}")
        facts = typed_json.as_typed(data, _VoiceFacts, path, "")
        if not len(arrays["codes"]) or (facts.dual and len(arrays["codes"]) % 2):
            raise ValueError(f"it holds {len(arrays['codes'])} codes")
    return Voice(name, arrays["codes"].astype(np.int16), **asdict(facts))


@contextmanager
def _damaged_voice(path: Path, name: str) -> Iterator[None]:
    """Turn errors of reading a voice into a DamagedFile with a hint to save it again."""
    try:
        yield
    except (DamagedFile, ValueError) as error:
        hint = f"save it again from its recording: yuegguf voice save {name} --force"
        raise DamagedFile(f"the voice {path} is damaged", hint) from error


def voice_names(folder: Path | None = None) -> list[str]:
    """Names of all saved voices, damaged ones included."""
    return [path.stem for path in paths_in(folder or registry.voices_dir(), "*.npz")]


def voice_fingerprint(name: str) -> str:
    """Fingerprint of a voice's file. Raises RequestError when there is none of this name."""
    return fingerprint(_existing_path(name, None))


def remove_voice(name: str, folder: Path | None = None) -> Path:
    """Delete a voice; songs that use it keep their own copy. Raises RequestError, StorageError."""
    path = _existing_path(name, folder)
    with storage_errors(path):
        path.unlink()
    return path


def _existing_path(name: str, folder: Path | None) -> Path:
    path = voice_path(name, folder)
    if not os.path.isfile(path):  # unlike is_file, never raises
        raise RequestError(f"there is no voice called {name} in {path.parent}", "see: yuegguf voice list")
    return path
