"""Options that describe a song → a request."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import click

from yuegguf.cli._audio_options import audio_options
from yuegguf.cli._completion import VOICE
from yuegguf.cli._groups import Group
from yuegguf.cli._options import (
    ReferenceOptions,
    reference_options,
    retries_option,
    sampling_options,
    song_seed,
    take_option,
    was_given,
)
from yuegguf.cli._texts import read_text, text_or_file
from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.errors import RequestError
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import WORDLESS, GuideTrack, Output, Reference, SongRequest

IDS_PER_SECOND = 2 * FRAME_RATE
"""Stage-1 ids of a second: a frame has one of each track."""


@dataclass(frozen=True)
class TextOptions:
    """Tags and lyrics, each a text or a file."""

    genre: str | None
    genre_txt: str | None
    lyrics: str | None
    lyrics_txt: str | None
    example: bool
    keep_repeats: bool

    def read(self, default_lyrics: str | None) -> tuple[str, str]:
        """Tags and lyrics. Raises RequestError, UsageError where one is missing or given twice."""
        texts = (self.genre, self.genre_txt, self.lyrics, self.lyrics_txt)
        if texts.count("-") > 1:
            raise click.UsageError("only one of genre and lyrics can come from stdin")
        if self.example:
            names = ("genre", "genre_txt", "lyrics", "lyrics_txt")
            for name, text in zip(names, texts, strict=True):
                if text is not None:
                    raise click.UsageError(f"--example brings its own tags and lyrics; leave out --{name}")
            folder = resources.files("yuegguf") / "data" / "example"
            return (folder / "genre.txt").read_text("utf-8"), (folder / "lyrics.txt").read_text("utf-8")
        genre = _text("genre", self.genre, self.genre_txt, '-g "female pop"')
        if default_lyrics is not None and self.lyrics is None and self.lyrics_txt is None:
            return genre, default_lyrics
        return genre, _text("lyrics", self.lyrics, self.lyrics_txt, "-l lyrics.txt")


def _text(name: str, text: str | None, file: str | None, hint: str) -> str:
    if file is not None and text is None:
        return read_text(file, name)
    if text is not None and file is None:
        return text_or_file(text, name)
    raise click.UsageError(f"pass the {name} once: {hint} (or --example)")


def _silent_track(instrumental: bool, a_cappella: bool) -> GuideTrack | None:
    """The track that --instrumental or --a-cappella silences. Raises UsageError."""
    if instrumental and a_cappella:
        raise click.UsageError("--instrumental and --a-cappella leave no track; choose one")
    silenced = [("vocal_gain",), ("inst_gain", "stereo")][a_cappella] if instrumental or a_cappella else ()
    if idle := [name for name in silenced if was_given(name)]:
        cause = "--a-cappella" if a_cappella else "--instrumental"
        option = f"--{idle[0].replace('_', '-')}"
        raise click.UsageError(f"{option} has no effect with {cause}; leave one of them out")
    if instrumental:
        return GuideTrack("vocal")
    return GuideTrack("instrumental") if a_cappella else None


def _reference(
    recordings: ReferenceOptions,
    voice: str | None,
    use_audio_prompt: bool,
    use_dual_tracks_prompt: bool,
) -> Reference | None:
    """The style reference. Raises RequestError, UsageError."""
    if voice is not None:
        if recordings.files or was_given("ref_start", "ref_end"):
            raise click.UsageError("--voice brings its own recording and window; leave out --ref…")
        return Reference(voice=voice)
    if not recordings.files:
        if use_audio_prompt or use_dual_tracks_prompt:
            raise RequestError(
                "a reference was asked for but not named", "pass --ref, or --ref-vocal and --ref-inst"
            )
        if was_given("ref_start", "ref_end"):
            raise click.UsageError("--ref-start and --ref-end need a recording; pass --ref too")
        return None
    # infer.py prefers the two tracks when both are given
    return recordings.reference(only_tracks=use_dual_tracks_prompt)


@dataclass(frozen=True)
class RequestOptions:
    """Options that describe a song."""

    texts: TextOptions
    sections: str
    segment_seconds: float
    max_new_tokens: int | None
    reference: Reference | None
    silent_track: GuideTrack | None
    seed: int
    sampling: Sampling
    retries: int
    take: int
    audio: Output

    def request(self) -> SongRequest:
        """The request, its texts read. Raises RequestError, UsageError."""
        instrumental = self.silent_track is not None and self.silent_track.track == "vocal"
        genre, lyrics = self.texts.read(WORDLESS if instrumental else None)
        seconds = self.max_new_tokens / IDS_PER_SECOND if self.max_new_tokens else self.segment_seconds
        return SongRequest(
            genre,
            lyrics,
            self.sections,
            seconds,
            self.seed,
            self.sampling,
            reference=self.reference,
            track=self.silent_track,
            take=self.take,
            retries=self.retries,
            output=self.audio,
            keep_repeats=self.texts.keep_repeats,
        )


text_options = Group(
    "texts",
    TextOptions,
    click.option("-g", "--genre", help="Tags: genre, instrument, mood, gender, timbre; text, a file or -."),
    click.option("--genre-txt", metavar="FILE", help="The same from a file; - reads stdin."),
    click.option("--lyrics", help="Lyrics with [section] lines; text, a file or -."),
    click.option("-l", "--lyrics-txt", metavar="FILE", help="The same from a file; - reads stdin."),
    click.option("--example", is_flag=True, help="Use the bundled tags and lyrics."),
    click.option(
        "--keep-repeats", is_flag=True, help="Leave marks such as (x2) as they are instead of repeating."
    ),
)
_voice_or_recordings = Group(
    "reference",
    _reference,
    reference_options,
    click.option(
        "--voice", type=VOICE, metavar="NAME", help="Style reference: a saved voice; see: yuegguf voice"
    ),
    click.option("--use-audio-prompt", is_flag=True, hidden=True),
    click.option("--use-dual-tracks-prompt", is_flag=True, hidden=True),
)
_silent_track_options = Group(
    "silent_track",
    _silent_track,
    click.option(
        "--instrumental", is_flag=True, help="No vocal: it is forced to silence; lyrics may be left out."
    ),
    click.option("--a-cappella", is_flag=True, help="No backing: it is forced to silence."),
)
request_options = Group(
    "request",
    RequestOptions,
    text_options,
    click.option(
        "--sections",
        "--run-n-segments",
        default="all",
        show_default=True,
        help="How many (2) or which (1,3-4) to generate.",
    ),
    click.option(
        "--segment-seconds", type=float, default=30.0, show_default=True, help="Longest a section may be."
    ),
    click.option("--max-new-tokens", type=click.IntRange(100, 15_000), hidden=True),
    _voice_or_recordings,
    _silent_track_options,
    song_seed,
    sampling_options,
    retries_option,
    take_option,
    audio_options,
)
