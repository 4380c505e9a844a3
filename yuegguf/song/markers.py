"""Start times of a song's sections for other programs: Audacity labels, LRC, cue points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from yuegguf.audio.cues import CuePoint
from yuegguf.audio.tags import Chapter, Tags
from yuegguf.codec.protocol import FRAME_RATE, SONG_HOP
from yuegguf.files.atomic import replacing
from yuegguf.request.song_request import FinishedSection, Song
from yuegguf.request.syllables import count_syllables
from yuegguf.song.folder import SongFolder
from yuegguf.song.record import TEXT_FILES
from yuegguf.song.state import finished, finished_sections, generated_bodies


def cue_points(sections: Sequence[FinishedSection]) -> list[CuePoint]:
    """A cue point per section; sections begin on whole frames."""
    return [CuePoint(round(section.start * FRAME_RATE) * SONG_HOP, section.label) for section in sections]


def audacity_labels(sections: Sequence[FinishedSection]) -> str:
    """Audacity labels: start, end, name, tab-separated."""
    return "".join(f"{s.start:.6f}\t{s.start + s.seconds:.6f}\t{s.label}\n" for s in sections)


def lrc_text(sections: Sequence[FinishedSection], bodies: Sequence[str], title: str) -> str:
    """The lyrics with times: a section's label at its exact start, its lines spread over its seconds.

    YuE gives no time for a line, so each gets a share by its syllables; blank lines stay. `bodies` are the
    sections' lines. `encode --jsonl` and `parse_lyrics` read this format.
    """
    end = sections[-1].start + sections[-1].seconds if sections else 0.0
    length = _lrc_time(end).strip("[]")
    lines = [f"[ti:{' '.join(title.split())}]", "[by:yuegguf]", f"[length:{length}]"]
    for section, words in timed_sections(sections, bodies):
        lines.append(f"{_lrc_time(section.start)}[{section.label}]")
        lines += [f"{_lrc_time(start)} {line}" if line else _lrc_time(start) for start, line in words]
    return "\n".join(lines) + "\n"


def timed_sections(
    sections: Sequence[FinishedSection], bodies: Sequence[str]
) -> Iterator[tuple[FinishedSection, list[tuple[float, str]]]]:
    """Each section with its lines and their starts in seconds."""
    for section, body in zip(sections, bodies, strict=False):
        words = body.splitlines()
        starts = _line_starts(words, section.start, section.seconds)
        yield section, list(zip(starts, words, strict=True))


def song_tags(folder: SongFolder) -> Tags:
    """Tags of a drafted song's files: genre, lyrics, chapters. Raises DamagedFile."""
    sections = finished_sections(folder)
    bodies = generated_bodies(folder, sections)
    timed = timed_sections(sections, bodies)
    return Tags(
        genre=" ".join(folder.request.genre.split()),
        lyrics="\n\n".join(
            f"[{section.label}]\n{body}".rstrip() for section, body in zip(sections, bodies, strict=False)
        ),
        timed_lines=tuple(line for _, words in timed for line in words if line[1].strip()),
        chapters=tuple(Chapter(each.start, each.start + each.seconds, each.label) for each in sections),
    )


def _line_starts(lines: Sequence[str], start: float, seconds: float) -> list[float]:
    """Start of each line in seconds; one without syllables counts as one syllable, a blank one as none."""
    weights = [max(1, count_syllables(line)) if line.strip() else 0 for line in lines]
    return [start + seconds * sum(weights[:i]) / sum(weights) for i in range(len(lines))]


def _lrc_time(seconds: float) -> str:
    """LRC time in minutes, seconds and hundredths, rounded down so that no line starts after its section."""
    hundredths = int(round(seconds * 1000) // 10)
    return f"[{hundredths // 6000:02d}:{hundredths // 100 % 60:02d}.{hundredths % 100:02d}]"


def write_markers(folder: SongFolder) -> None:
    """Write markers.txt and lyrics.lrc of a drafted song. Raises StorageError."""
    sections = finished_sections(folder)
    bodies = generated_bodies(folder, sections)
    for name, text in zip(
        TEXT_FILES, (audacity_labels(sections), lrc_text(sections, bodies, folder.title)), strict=True
    ):
        with replacing(folder.path / name) as beside:
            beside.write_text(text, encoding="utf-8")


def repaired_song(folder: SongFolder) -> Song:
    """The song of a finished folder, after removing leftovers and writing missing text files again.

    Raises DamagedFile, StorageError.
    """
    folder.tidy()
    if not all((folder.path / name).exists() for name in TEXT_FILES):
        with folder.claimed():
            write_markers(folder)
    return finished(folder)
