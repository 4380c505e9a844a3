"""Faults in whole songs of the published models: none as they are, and each that is spliced into them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from sections import (
    DETECTOR,
    EVERY,
    SILENCE,
    RealSection,
    first_fault,
    flat,
    logged_sections,
    review,
    shipped_sections,
    silent,
    yue_ui_sections,
)

from yuegguf.stages.faults import entropy


@pytest.fixture(params=[shipped_sections, logged_sections, yue_ui_sections])
def real(request: pytest.FixtureRequest) -> list[RealSection]:
    """Sections of whole songs that people kept; two are shipped, the others lie beside the checkout."""
    return list(request.param())


def test_no_section_of_the_real_songs_has_a_fault_not_even_a_doubtful_one(real: list[RealSection]) -> None:
    for section in real:
        assert first_fault(section.tracks, section.words, every=EVERY) is None, section.name
        for ended in (True, False):
            fault = review(section.tracks, section.words, ended, limit=1500)
            assert fault is None, (section.name, fault)


def spliced(section: RealSection, row: int | slice, at: int, codes: int | np.ndarray) -> np.ndarray:
    """The section with codes written over a track from a frame on, or over both."""
    tracks = section.tracks.copy()
    tracks[row, at : at + np.size(codes)] = codes
    return tracks


PLACES = (0.0, 0.15, 0.4, 0.6)
"""Where a fault begins, as a share of the section."""


def test_silence_spliced_into_real_songs_is_found(real: list[RealSection]) -> None:
    for section, place in product(real, PLACES):
        at = int(place * section.tracks.shape[1])
        vocal, backing = section.tracks
        if (backing == SILENCE).sum() > 100:  # an outro that ends in silence by itself
            continue
        for frames, certain in ((500, True), (700, True), (400, False), (150, None)):
            if at + frames > len(vocal):
                continue
            tracks = spliced(section, slice(None), at, np.full(frames, SILENCE))
            fault = review(tracks, section.words, section.ended)
            where = section.name, at, frames, fault
            if certain is None:
                assert fault is None or not fault.certain, where
                continue
            assert fault, where
            assert fault.certain == certain, where
            if certain:
                assert fault.kind == "dead air", where
                assert at + 475 <= fault.frames < at + 500 + EVERY, where
                assert first_fault(tracks, section.words, every=EVERY) == fault, where


def test_loops_spliced_into_real_songs_are_found(real: list[RealSection]) -> None:
    looped = 0
    for section, place, period in product(real, PLACES, (30, 60, 125, 240)):
        at, total = int(place * section.tracks.shape[1]), section.tracks.shape[1]
        source = section.tracks[0, at : at + period]
        changes = ((source[1:] != source[:-1]) & (source[:-1] != SILENCE)).sum()
        if at + period + 350 > total or changes < 0.3 * period or not section.words:
            continue
        tracks = spliced(section, 0, at, np.resize(source, total - at))
        fault = first_fault(tracks, every=EVERY)
        assert fault, (section.name, at, period)
        assert (fault.kind, fault.certain) == ("loop", True)
        assert at + period + 200 <= fault.frames <= at + period + 300 + EVERY
        end = review(tracks, True, section.ended)
        assert end
        assert end.certain
        looped += 1
    assert looped >= 8


def moves(vocal: np.ndarray) -> bool:
    """Whether a vocal of 2 s sounds and is not stuck."""
    sounding = vocal[vocal != SILENCE]
    return len(sounding) >= 75 and entropy(sounding) >= 2


def test_stuck_codes_spliced_into_real_songs_are_found(real: list[RealSection]) -> None:
    for section, place, code in product(real, PLACES, (0, 805)):
        at, total = int(place * section.tracks.shape[1]), section.tracks.shape[1]
        where = section.name, at, code
        if section.words and at + 750 < total:
            tracks = spliced(section, 0, at, np.full(total - at, code))
            fault = review(tracks, True, section.ended)
            assert fault, where
            moving = any(moves(section.tracks[0, n - 100 : n]) for n in range(100, at + 1, 25))
            assert fault.certain or not (moving or at == 0), where
            assert fault.kind == "collapse", where
        if at + 300 < total:
            tracks = spliced(section, 1, at, np.full(300, code))
            assert DETECTOR.check(flat(tracks[:, : at + 280]), section.words) is None, where
            fault = DETECTOR.check(flat(tracks[:, : at + 300]), section.words)
            assert fault, where
            assert (fault.kind, fault.certain) == ("collapse", True), where


def test_a_real_section_that_opens_without_its_voice_is_kept_however_late_it_comes(
    real: list[RealSection],
) -> None:
    intro = silent(1500)
    for section in real:
        total = section.tracks.shape[1]
        for opening in {150, min(700, total - 150), total - 50}:
            tracks = spliced(section, 0, 0, intro[:opening])
            late = section.tracks[0, opening:]
            voiced = len(late) >= 25 and any(
                (late[n : n + 25] != SILENCE).all() for n in range(0, len(late) - 24, 5)
            )
            assert first_fault(tracks, section.words, every=EVERY) is None
            fault = review(tracks, section.words, section.ended)
            if voiced:
                assert fault is None or not fault.certain, (section.name, opening, fault)
        whole = review(spliced(section, 0, 0, intro[:total]), section.words, section.ended)
        assert (whole is not None) == section.words
        if whole:
            assert (whole.kind, whole.certain, whole.frames) == ("silent voice", True, total)
