"""Songs made from songs with a family: going on, a backing for a given vocal, and references.

    python -m nano.evaluate.further FOLDER [--count 30] [--only extend,backing,reference]

Prints the share of songs in which the new part keeps to the old one.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

import yuegguf
from nano.corpus import SongSpec, make_song
from nano.corpus.states import states
from nano.evaluate.referring import referring
from nano.evaluate.requests import held_out, lengths
from nano.evaluate.songs import SECONDS
from nano.measure import music
from yuegguf.codec.protocol import FRAME_RATE, SONG_RATE
from yuegguf.exchange.imported import ImportedSong, create_imported_song
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline import takes
from yuegguf.pipeline.engines import open_codec
from yuegguf.pipeline.extend import ExtendRequest, extend
from yuegguf.pipeline.song_job import SongJob
from yuegguf.request.prepared import prepare
from yuegguf.request.song_request import GuideTrack
from yuegguf.song.recordings import recorded_frames

NANO = yuegguf.ModelChoice("nano")
MACHINE = yuegguf.ComputeOptions()


def parts(song: yuegguf.Song, name: str, cut: float) -> tuple[np.ndarray, np.ndarray, int]:
    """A stem before and after a time in seconds."""
    wave, rate = soundfile.read(song.folder / f"{name}.wav", dtype="float32")
    return wave[: round(cut * rate)], wave[round(cut * rate) :], rate


def going_on(specs: list[SongSpec], folder: Path, named: bool, recorded: bool) -> dict[str, list[bool]]:
    """The corpus's own first half, whose tempo and key are known, then the rest by `extend`.

    The tags say tempo and key only if `named`. The half is encoded by the codec if it is `recorded`,
    else it is as a stage 1 without mistakes writes it.
    """
    found: dict[str, list[bool]] = {"tempo": [], "key": []}
    for spec in specs:
        each = lengths(spec)
        half = max(1, len(each) // 2)
        frames = sum(each[:half])
        codes = (
            encoded_beginning(spec, frames) if recorded else states(spec)[:, None, :frames].astype(np.int16)
        )
        refined = codes if recorded else np.zeros((2, 8, 0), np.int16)
        tags = spec.tags if named else f"{spec.genre} {spec.mood} {spec.gender} vocal"
        request = yuegguf.SongRequest(
            tags, spec.lyrics, sections=f"1-{half}", segment_seconds=SECONDS, seed=spec.seed
        )
        first = ImportedSong(request, codes[:, 0], refined, tuple(each[:half]), {"tool": "nano.corpus"})
        base = create_imported_song(
            first, SongJob(prepare(request), nano_models(), folder, f"base-{spec.seed}", MACHINE)
        )
        wanted = ExtendRequest(seed=spec.seed + 1, sections="all")
        continuation = extend(takes.drafted_song(base), wanted)
        job = SongJob(prepare(continuation.request), nano_models(), folder, f"on-{spec.seed}", MACHINE)
        begun = takes.start_extension(base, continuation, job)
        song = yuegguf.resume(begun[0].path)
        cut = frames / FRAME_RATE
        _, new, rate = parts(song, "instrumental", cut)
        found["tempo"].append(music.same_tempo(music.tempo(new, rate), spec.bpm))
        _, new, rate = parts(song, "mix", cut)
        found["key"].append(music.key(new, rate) == (spec.key, spec.mode))
        print_progress(
            f"{spec.seed}: " + " ".join(f"{key} {np.mean(values):.2f}" for key, values in found.items())
        )
    return found


def encoded_beginning(spec: SongSpec, frames: int) -> np.ndarray:
    """Codes [2, 8, frames] of the beginning of the corpus's song, encoded."""
    made = make_song(spec)
    with closing(open_codec(nano_models().codec)) as codec:
        tracks = [codec.encode(wave) for wave in (made.vocal16, made.instrumental16)]
    return np.stack(tracks)[:, :, :frames]


def timed_lyrics(spec: SongSpec) -> str:
    """The lyrics with the corpus's own section lengths; the last section takes what is left."""
    times = [f"#length {frames / FRAME_RATE:g}\n" for frames in lengths(spec)]
    times[-1] = ""
    parts = [
        f"{time}[{section.label}]\n{section.body}".rstrip()
        for time, section in zip(times, spec.sections, strict=True)
    ]
    return "\n\n".join(parts) + "\n"


def backing(specs: list[SongSpec], folder: Path, named: bool) -> dict[str, list[bool]]:
    """A backing for the corpus's own vocal; the tags say tempo and key only if `named`."""
    found: dict[str, list[bool]] = {"tempo": [], "key": []}
    for spec in specs:
        vocal = folder / f"vocal-{spec.seed}.wav"
        made = make_song(spec)
        soundfile.write(vocal, made.vocal, SONG_RATE)
        track = GuideTrack("vocal", str(vocal))
        tags = spec.tags if named else f"{spec.genre} {spec.mood} {spec.gender} vocal"
        track = replace(track, frames=recorded_frames(track))
        request = yuegguf.SongRequest(tags, timed_lyrics(spec), seed=spec.seed, track=track)
        song = yuegguf.generate(request, NANO, folder, name=f"backing-{spec.seed}-{named}")
        _, wave, rate = parts(song, "instrumental", 0)
        found["tempo"].append(music.same_tempo(music.tempo(wave, rate), spec.bpm))
        found["key"].append(music.key(wave, rate) == (spec.key, spec.mode))
    return found


def print_progress(text: str) -> None:
    """Print a line of progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--only", default="extend,backing,reference")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    sung = [spec for spec in held_out(3 * options.count) if spec.gender and len(spec.sections) > 1]
    specs = sung[: options.count]
    results = {}
    for name in options.only.split(","):
        if name == "extend":
            results["going on from its own codes"] = going_on(specs, options.folder, True, False)
            results["going on from a recording"] = going_on(specs, options.folder, True, True)
            results["the same, tags without"] = going_on(specs, options.folder, False, True)
        elif name == "backing":
            results["backing, tags with tempo and key"] = backing(specs, options.folder, True)
            results["backing, tags without"] = backing(specs, options.folder, False)
        else:
            for name, answers in referring(specs, options.folder).items():
                results[f"reference: {name}"] = answers
    shares = {
        name: {key: float(np.mean(values)) for key, values in answers.items()}
        for name, answers in results.items()
    }
    print(json.dumps(shares, indent=1))


if __name__ == "__main__":
    main()
