"""Typed inputs of the nodes, and the key that they share with every later run of the same inputs."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Literal

Tracks = Literal["vocals and instrumental", "instrumental only", "vocals only"]
Stem = Literal["vocal", "instrumental"]
Mix = Literal["hybrid", "upstream", "vocos", "codec", "split"]
SILENT: dict[Tracks, Stem] = {"instrumental only": "vocal", "vocals only": "instrumental"}
"""Choice of tracks → the track that is silent."""
WORDLESS = "[intro]\n\n[verse]\n\n[chorus]\n\n[outro]\n"
"""Sections of an instrumental without lyrics."""
KEY_CHARS = 16
"""Characters of a key, which ends the name of its song."""
KEYS = re.compile(rf"(-[0-9a-f]{{{KEY_CHARS}}})?-[0-9a-f]{{6}}$")
"""End of a song's id: its key, if a node has made it, and the key of its folder."""


@dataclass(frozen=True)
class Recording:
    """A mono recording as the bytes of a WAV file."""

    wav: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes."""
        return hashlib.sha256(self.wav).hexdigest()


@dataclass(frozen=True)
class VoiceInput:
    """A style reference: the name of a saved voice, one recording, or a vocal and its backing."""

    name: str = ""
    mix: Recording | None = None
    vocal: Recording | None = None
    instrumental: Recording | None = None
    start: float = 0.0
    end: float = 30.0

    def recordings(self) -> dict[str, Recording]:
        """The recordings by their names in a request over HTTP."""
        parts = {"ref": self.mix, "vocal_ref": self.vocal, "inst_ref": self.instrumental}
        return {name: recording for name, recording in parts.items() if recording is not None}


@dataclass(frozen=True)
class Sampler:
    """Sampling options of stage 1."""

    guidance_first: float = 1.5
    guidance_rest: float = 1.2
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 0.93
    repetition_penalty: float = 1.1


@dataclass(frozen=True)
class StemInput:
    """A recorded track to which the other one is generated."""

    track: Stem
    recording: Recording
    offset: float = 0.0


@dataclass(frozen=True)
class SongInputs:
    """Everything that a song is made from."""

    tags: str
    lyrics: str
    seed: int = 0
    model: str = ""
    """Id of a stage-1 model; empty = automatic."""
    quant: str = ""
    sections: str = "all"
    segment_seconds: float = 30.0
    tracks: Tracks = "vocals and instrumental"
    mix: Mix = "hybrid"
    retries: int = 2
    sampler: Sampler = Sampler()
    voice: VoiceInput | None = None
    stem: StemInput | None = None
    draft: bool = False
    """Stop after the draft."""

    @property
    def words(self) -> str:
        """The lyrics; sections without words for an instrumental that has none."""
        blank = self.tracks == "instrumental only" and not self.lyrics.strip()
        return WORDLESS if blank else self.lyrics


@dataclass(frozen=True)
class ExtendInputs:
    """A continuation of another song, or the section of it that is generated again."""

    seed: int = 0
    lyrics: str = ""
    """Lyrics with what is to be added; empty = the song's own."""
    sections: str = ""
    """Sections to add; empty = the next one."""
    retake: int = 0
    """Number of the section to generate again; 0 = none."""
    keep_after: bool = False
    rewind: float = 0.0
    same_section: bool = False
    segment_seconds: float = 0.0
    """Longest a section may be from now on; 0 = as before."""


def key_of(*parts: object) -> str:
    """A key of dataclasses and JSON values: the same for the same inputs, in any process."""
    text = json.dumps(parts, default=_plain, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:KEY_CHARS]


def title_of(tags: str, key: str) -> str:
    """Title of a song: the beginning of its tags, and its key, which also ends its folder's name."""
    words = "".join(char if char.isalnum() else " " for char in tags).split()
    return f"{' '.join(words)[:24].strip()} {key}".strip()


def words_of(song: str) -> str:
    """Title of a song by its id, without the keys at its end."""
    return KEYS.sub("", song)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    return asdict(value)  # type: ignore[call-overload]
