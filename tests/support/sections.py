"""Sections of music as codes: made ones, and those of songs of the published models that people kept."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from shared_data import shared_path

from yuegguf.measure.samples import stage1_samples
from yuegguf.stages.faults import Fault, FaultDetector

SILENCE = 464
"""Code of silence of the published codec, as in the real song."""
DETECTOR = FaultDetector(SILENCE)
EVERY = 50


def noise(frames: int, seed: int = 0) -> np.ndarray:
    """Codes [2, frames] without any order, and without silence."""
    return np.random.default_rng(seed).integers(0, 400, (2, frames))


def flat(tracks: np.ndarray) -> np.ndarray:
    """[2, T] → V0 I0 V1 I1 …"""
    return tracks.T.ravel()


def first_fault(
    tracks: np.ndarray, words: bool = True, detector: FaultDetector = DETECTOR, every: int = 1
) -> Fault | None:
    """The first fault of a section that is checked every `every` frames."""
    codes = flat(tracks)
    for frames in range(every, tracks.shape[1] + 1, every):
        if found := detector.check(codes[: 2 * frames], words):
            return found
    return None


def review(tracks: np.ndarray, words: bool = True, ended: bool = True, **options: int) -> Fault | None:
    """The verdict on a finished section."""
    return DETECTOR.review(flat(tracks), words, ended=ended, **options)


def silent(frames: int) -> np.ndarray:
    """A vocal without voice: a real one is not all one code."""
    codes = np.full(frames, SILENCE)
    codes[::10] = noise(frames, 1)[0, ::10]
    return codes


@dataclass(frozen=True)
class RealSection:
    """A section of a song of the published models that its makers kept."""

    name: str
    tracks: np.ndarray
    words: bool
    ended: bool


def shipped_sections() -> list[RealSection]:
    samples = stage1_samples("en-cot")
    return [
        RealSection(f"shipped {n}", np.array(part.codes).reshape(-1, 2).T, True, part.ended)
        for n, part in enumerate(samples.sections, 1)
    ]


def logged_sections() -> list[RealSection]:
    logged = np.load(shared_path("data/real-upstream-songs.npz"))
    sections = []
    for song in ("text", "reference"):
        for n in range(1, 7):
            codes = logged[f"{song}__new_{n}"][:-1] - 45334
            sections.append(RealSection(f"{song} {n}", codes.reshape(-1, 2).T, True, len(codes) < 3000))
    return sections


def yue_ui_sections() -> list[RealSection]:
    song = json.loads(shared_path("data/yue-ui-example-song.json").read_text("utf-8"))["cache"]
    tracks = np.array(song["tracks"][0]) - 45334
    return [
        RealSection(f"YuE-UI {label}", tracks[:, start:stop], label not in ("intro", "outro"), True)
        for label, start, stop in song["segments"]
    ]
