"""song.json, typed and checked whenever it is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypedDict, Unpack

from msgspec import Meta, Struct, field, structs

from yuegguf import __version__
from yuegguf.audio.tags import CREDIT
from yuegguf.errors import DamagedFile
from yuegguf.files import typed_json
from yuegguf.planning.plan import Plan
from yuegguf.request.preview_options import PreviewOptions
from yuegguf.request.song_request import BEFORE_LOUDNESS, FORMATS, FinishedSection, SongRequest

RECORD_FORMAT = 1
Phase = Literal["draft", "sketch", "refine", "master", "done"]
"""Step that a song needs next; "sketch" is the quick rendering of a draft, "done" no step at all."""
FileRole = Literal["stage1", "stage2", "codec"]
SONG_AUDIO = ("mix", "vocals", "instrumental")
"""Audio files of a finished song, without their endings; the mix first."""
DRAFT_AUDIO = ("draft", "draft-vocals", "draft-instrumental")
"""Audio files of a draft, without their endings."""
TEXT_FILES = ("markers.txt", "lyrics.lrc")
"""Text files with the start times of sections."""
AUDIO_FILES = frozenset(f"{name}.{kind}" for name in (*SONG_AUDIO, *DRAFT_AUDIO) for kind in FORMATS)
"""Every possible name of a song's audio file."""
RECORD_HINT = "restore it from a copy; nothing was changed"

Bytes = Annotated[int, Meta(ge=0, lt=2**60)]
Seconds = Annotated[float, Meta(ge=0, lt=2**60)]


class ModelFile(Struct, frozen=True, kw_only=True):
    """A model file that a song was started with."""

    file: Annotated[str, Meta(min_length=1, max_length=4096)]
    """Absolute path."""
    bytes: Bytes
    fingerprint: Annotated[str, Meta(max_length=64)]
    """Hash of its content, see `files.hashing.fingerprint`."""

    def __post_init__(self) -> None:
        _check_path(self.file)


class LoraFile(ModelFile, frozen=True, kw_only=True):
    """An adapter that a song was started with."""

    scale: float


class ContinuedFrom(Struct, frozen=True, kw_only=True):
    """The earlier song that a song continues."""

    folder: str
    """Name of its folder, for people."""
    seed: int


class Imported(Struct, frozen=True, kw_only=True):
    """Files of another tool that a song was imported from."""

    tool: str
    files: tuple[str, ...]
    """Names without their folders, for people."""
    start: float


ModelFiles = dict[FileRole, ModelFile]


class RecordChanges(TypedDict, total=False):
    """Fields of a song's record that change while it is worked on."""

    request: SongRequest
    title: str
    models: ModelFiles
    plan: Plan | None
    early: PreviewOptions
    origin: ContinuedFrom | None
    imported: Imported | None
    seconds: dict[Phase, Seconds]
    silence: int | None
    faults: dict[str, str]
    files: tuple[str, ...]
    draft_files: tuple[str, ...]
    older_files: tuple[str, ...]
    sections: tuple[FinishedSection, ...]


class StateAndChanges(RecordChanges, total=False):
    """Those fields, and the phase that comes next."""

    state: Phase


class SongRecord(Struct, frozen=True, kw_only=True):
    """Everything in song.json."""

    format: int = RECORD_FORMAT
    made_with: str = f"yuegguf {__version__}"
    credit: str = CREDIT
    state: Phase = "draft"
    """Phase that comes next."""
    request: SongRequest
    title: str = ""
    family: str = ""
    models: ModelFiles = {}
    loras: tuple[LoraFile, ...] = ()
    plan: Plan | None = None
    early: PreviewOptions = PreviewOptions()
    origin: ContinuedFrom | None = field(name="from", default=None)
    imported: Imported | None = None
    seconds: dict[Phase, Seconds] = {}
    """Seconds that each phase took so far."""
    silence: Annotated[int, Meta(ge=0, lt=1024)] | None = None
    """The codec's code of silence in codebook 0."""
    faults: dict[str, str] = {}
    """Number of a section from 1 → its fault after all retries."""
    files: tuple[str, ...] = ()
    """Audio files of the finished song, mixes first."""
    draft_files: tuple[str, ...] = ()
    older_files: tuple[str, ...] = ()
    """Audio files of earlier renderings that still exist."""
    sections: tuple[FinishedSection, ...] = ()

    def __post_init__(self) -> None:
        if self.state == "sketch" or "done" in self.seconds:
            raise ValueError("a sketch is no state, and being done takes no seconds")
        for name in (*self.files, *self.draft_files, *self.older_files):
            if name not in AUDIO_FILES:
                raise ValueError(f"{name[:80]!r} is no audio file of a song")
        for names, stem in ((self.files, SONG_AUDIO[0]), (self.draft_files, DRAFT_AUDIO[0])):
            if names and not any(name.startswith(f"{stem}.") for name in names):
                raise ValueError(f"its audio files lack the {stem}")
        for number in self.faults:
            if not re.fullmatch(r"[1-9]\d{0,5}", number):
                raise ValueError(f"{number[:80]!r} is no section's number")

    def changed(self, **changes: Unpack[StateAndChanges]) -> Self:
        """A copy with some fields changed."""
        return structs.replace(self, **changes)

    def to_bytes(self) -> bytes:
        """Bytes of song.json, with its checksum."""
        return typed_json.encode_with_checksum(self)


def read_record(path: Path) -> SongRecord:
    """Read a song.json. Raises DamagedFile; OSErrors pass through."""
    data = typed_json.read_file(path, dict[str, Any], RECORD_HINT)
    version = data.get("format")
    if isinstance(version, int) and version > RECORD_FORMAT:
        raise DamagedFile(f"{path.parent} was made by a newer yuegguf", "update yuegguf to open it")
    if version != RECORD_FORMAT:
        raise DamagedFile(f"{path} is damaged (its format is {version!r:.80})", RECORD_HINT)
    _complete_output(data)
    return typed_json.as_typed(data, SongRecord, path, RECORD_HINT)


def _complete_output(data: dict[str, Any]) -> None:
    """Enter what a song of an earlier version was written with, so that it is written so again."""
    request = data.get("request")
    output = request.get("output") if isinstance(request, dict) else None
    if isinstance(output, dict):
        for key, value in BEFORE_LOUDNESS.items():
            output.setdefault(key, value)


def _check_path(text: str) -> None:
    if "\0" in text:
        raise ValueError("a path holds a zero byte")
