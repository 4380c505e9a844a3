"""The request for a song, and the finished song, as frozen dataclasses with a lossless JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal, Self, get_args

from yuegguf.codec.protocol import FRAME_RATE, Track
from yuegguf.errors import DamagedFile, RequestError
from yuegguf.files import typed_json
from yuegguf.files.field_types import take_types
from yuegguf.request.ranges import (
    MAX_SECONDS,
    MAX_SECTION_SECONDS,
    MIN_SECTION_SECONDS,
    check_integer,
    check_number,
)
from yuegguf.request.sampling import Sampling
from yuegguf.request.valid_text import check_text_length, is_valid_text

Format = Literal["wav", "flac", "mp3", "opus", "m4a"]
MixMode = Literal["hybrid", "upstream", "vocos", "codec", "split"]
StemMode = Literal["joined", "raw"]
MIX_MODES: tuple[MixMode, ...] = get_args(MixMode)
STEM_MODES: tuple[StemMode, ...] = get_args(StemMode)
FORMATS: tuple[Format, ...] = get_args(Format)
WORDLESS = "[intro]\n\n[verse]\n\n[chorus]\n\n[outro]\n"
"""Sections of an instrumental whose lyrics nobody wrote."""
MAX_GENRE_CHARS = 5_000
"""Most characters of tags."""
MAX_ARTIST_CHARS = 1_000
"""Most characters of an artist's name."""
MAX_TAKES = 2**31 - 1
"""Most takes of one seed."""


@dataclass(frozen=True)
class Reference:
    """Audio whose style conditions the song (in-context learning; needs an -icl model)."""

    mix: str | None = None
    """One file: a mix, a vocal or a backing."""
    vocal: str | None = None
    """The vocal of a dual-track reference; needs `instrumental` too."""
    instrumental: str | None = None
    start: float = 0.0
    """Seconds into the file where the reference begins."""
    end: float = 30.0
    """Seconds into the file where it ends; clipped to the file's length."""
    voice: str | None = None
    """Name of a saved voice, which has its own window; replaces the files."""

    def __post_init__(self) -> None:
        take_types(self, "mix", "vocal", "instrumental")
        dual = self.vocal is not None or self.instrumental is not None
        if dual and (self.vocal is None or self.instrumental is None):
            raise RequestError("a dual-track reference needs both tracks", "pass --ref-vocal and --ref-inst")
        if dual and self.mix is not None:
            raise RequestError("a reference is one file or two tracks", "pass --ref, or both tracks")
        if self.voice is not None and (dual or self.mix is not None):
            raise RequestError("a voice is a reference already", "pass --voice, or recordings with --ref")
        if not dual and self.mix is None and self.voice is None:
            raise RequestError("a reference names no recording", "pass --ref, both tracks, or --voice")
        check_number("the reference's start", self.start, 0, MAX_SECONDS)
        check_number("the reference's end", self.end, 0, MAX_SECONDS)
        if self.start >= self.end:
            raise RequestError(
                f"the reference window {self.start:g}-{self.end:g} s is empty", "pass --ref-start < --ref-end"
            )

    @property
    def frames(self) -> int:
        """Frames of the window."""
        return round(FRAME_RATE * self.end) - round(FRAME_RATE * self.start)


@dataclass(frozen=True)
class GuideTrack:
    """A stem that is supplied rather than generated: the other track is generated to it."""

    track: Track
    file: str | None = None
    """Its recording; None = a silent track."""
    offset: float = 0.0
    """Seconds into the recording where the song begins."""
    frames: int | None = None
    """Frames of the recording after `offset`; sets the song's length."""
    re_encode: bool = False
    """Mix the codec's reconstruction of the recording instead of the recording itself."""

    def __post_init__(self) -> None:
        take_types(self, "file")
        if self.track not in get_args(Track):
            raise RequestError(f"there is no track {self.track!r:.80}", "use vocal or instrumental")
        check_number("the offset", self.offset, 0, MAX_SECONDS)
        if self.frames is not None:
            check_integer("the recording's frames", self.frames, 1, round(FRAME_RATE * MAX_SECONDS))


@dataclass(frozen=True)
class Output:
    """Formats and mix of the finished audio files."""

    formats: tuple[Format, ...] = ("wav",)
    bits: int = 16
    """16 or 24 bits per sample; wav and flac only."""
    mix: MixMode = "hybrid"
    """hybrid: below 5.5 kHz the codec, above it Vocos, joined flat. upstream: the same with the official
    crossover. vocos and codec: one of them alone. split: codec backing under a Vocos vocal."""
    vocal_gain: float = 0.0
    """Gain of the vocal in the mix, and in a joined stem, dB."""
    inst_gain: float = 0.0
    """Gain of the instrumental, likewise."""
    rescale: bool = False
    """Scale to peak 0.99 instead of limiting."""
    stems: bool = True
    tags: bool = True
    """Whether the files' tags state that they are AI-generated with YuE."""
    stem_mode: StemMode = "joined"
    """joined: the stems sum to the mix. raw: each as its upsampler gives it, limited by itself; always so
    with the mix "upstream"."""
    loudness: float | None = -14.0
    """Integrated loudness of the mix, LUFS; None = as it is, as always with "upstream" and `rescale`."""
    fade: float = 10.0
    """Fade at both ends, ms; none with the mix "upstream"."""
    stereo: bool = False
    """Two channels, the instrumental widened above 250 Hz; their mean is the mono mix. Not of "upstream"."""
    artist: str = "YuE"
    """Artist in the files' tags."""
    year: int | None = None
    """Year in the files' tags; None = none, so that the same song has the same bytes in any year."""
    cover: str | None = None
    """PNG or JPEG file that becomes the cover picture of mp3, flac, opus and m4a files."""

    def __post_init__(self) -> None:
        take_types(self, "cover")
        if not self.formats or any(f not in FORMATS for f in self.formats):
            raise RequestError(
                f"unknown format in {','.join(map(str, self.formats))!r:.80}", f"use {', '.join(FORMATS)}"
            )
        if len(set(self.formats)) != len(self.formats):
            raise RequestError("a format is named twice", "name each once, such as wav,mp3")
        if self.bits not in (16, 24):
            raise RequestError(f"{self.bits} bits per sample is not offered", "use --bits 16 or 24")
        if self.mix not in MIX_MODES:
            raise RequestError(f"unknown mix {self.mix!r:.80}", f"use one of {', '.join(MIX_MODES)}")
        check_number("the vocal gain", self.vocal_gain, -60, 60)
        check_number("the backing's gain", self.inst_gain, -60, 60)
        if self.stem_mode not in STEM_MODES:
            raise RequestError(f"unknown stems {self.stem_mode!r:.80}", f"use {' or '.join(STEM_MODES)}")
        if self.loudness is not None:
            check_number("the loudness", self.loudness, -60, -6)
        check_number("the fade", self.fade, 0, 1000)
        check_text_length(self.artist, MAX_ARTIST_CHARS, "the artist's name")
        if self.cover is not None and ("\0" in self.cover or not 0 < len(self.cover) <= 4096):
            raise RequestError("the cover's path is not one of a file", "pass a PNG or JPEG picture")
        if self.year is not None:
            check_integer("the year", self.year, 1, 9999)

    @property
    def target_loudness(self) -> float | None:
        """Loudness that the mix is brought to, LUFS; None = none."""
        return None if self.rescale or self.mix == "upstream" else self.loudness


BEFORE_LOUDNESS: Mapping[str, object] = {"stem_mode": "raw", "loudness": None, "fade": 0.0, "artist": ""}
"""Fields of an `Output` that song.json did not have at first, and what songs were then written with."""


@dataclass(frozen=True)
class SongRequest:
    """Everything that determines a song's audio, apart from the model files."""

    genre: str
    """Tags: genre, instrument, mood, gender, timbre."""
    lyrics: str
    """Lyrics with [section] lines."""
    sections: str = "all"
    """Sections to generate: "all", "2" (the first two) or "1,3-4"."""
    segment_seconds: float = 30.0
    """Longest a section may be; a `#length` line above it overrides it."""
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    reference: Reference | None = None
    track: GuideTrack | None = None
    """User-supplied stem, silent or recorded."""
    take: int = 0
    """Number of the take among those of one seed, from 1; 0 = a single song."""
    retries: int = 2
    """Maximum times that a section with a fault is generated again."""
    output: Output = field(default_factory=Output)
    keep_repeats: bool = False
    """Whether marks such as `(x2)` stay words instead of repeating their line or section."""

    def __post_init__(self) -> None:
        take_types(self)
        check_text_length(self.genre, MAX_GENRE_CHARS, "the genre tags")
        if not self.genre.strip():
            raise RequestError(
                "the genre tags are empty", 'pass tags such as "inspiring female pop airy vocal"'
            )
        if not is_valid_text(self.genre):
            raise RequestError("the genre tags are not text", "pass a UTF-8 text file")
        check_number("segment-seconds", self.segment_seconds, MIN_SECTION_SECONDS, MAX_SECTION_SECONDS)
        check_integer("seed", self.seed, 0, 2**63 - 1)
        check_integer("take", self.take, 0, MAX_TAKES)
        check_integer("retries", self.retries, 0, 100)

    def to_json(self) -> dict[str, object]:
        """A JSON object; `from_json` gives back an equal request."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, object]) -> Self:
        """Read what `to_json` wrote. Raises RequestError for unknown or mis-typed fields."""
        try:
            return typed_json.as_typed(data, cls, "the song request", "see docs/python.md")
        except DamagedFile as error:
            raise RequestError(error.message, error.hint) from error


@dataclass(frozen=True)
class FinishedSection:
    """Times of one section in the finished song."""

    label: str
    start: float
    """Seconds."""
    seconds: float
    complete: bool
    """Whether the model ended the section; False = the length limit did."""
    fault: str = ""
    """Fault left after all retries; empty if there is none."""
    lost_lines: int = 0
    """Lines at its end that it had no time for: it reached its limit, and they exceed the fastest pace."""


@dataclass(frozen=True)
class Song:
    """A finished song on disk, or its draft."""

    folder: Path
    seconds: float
    seed: int
    files: tuple[Path, ...]
    """The audio files, mix first."""
    sections: tuple[FinishedSection, ...]
    draft: bool = False
    """Whether only stage 1 is done: the files are a quick rendering of codebook 0."""

    @property
    def faults(self) -> dict[int, str]:
        """Faults left after all retries, by the section's number from 1."""
        return {n: section.fault for n, section in enumerate(self.sections, 1) if section.fault}

    @property
    def lost_lines(self) -> dict[int, int]:
        """Lines that sections had no time for, by the section's number from 1."""
        return {n: section.lost_lines for n, section in enumerate(self.sections, 1) if section.lost_lines}

    def to_json(self) -> dict[str, object]:
        """A JSON object with paths as text."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        data["folder"] = str(self.folder)
        data["files"] = [str(path) for path in self.files]
        data["sections"] = [asdict(section) for section in self.sections]
        return data
