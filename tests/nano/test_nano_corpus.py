"""The procedural studio: same bytes for a seed, everything on the grid, tables that fit."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nano.corpus import (
    CorpusSong,
    SectionSpec,
    SongSpec,
    make_song,
    make_tags,
    sample_spec,
    section_frames,
    section_slots,
    spec_from,
)
from nano.corpus.arrange import Event, arrange
from nano.corpus.genres import GENRES, LABELS, MOODS, STEP_COUNT, drums, progression
from nano.corpus.instruments import DRUMS, TIMBRES, note
from nano.corpus.synth import STEP
from nano.corpus.theory import BEAT_FRAMES, KEYS, MODES, bpm, chord
from nano.corpus.voice import GAP_FRAMES, LOWEST, SPAN

SEEDS = range(60)
SHORT = SongSpec(
    genre="pop",
    mood="happy",
    gender="female",
    beat_frames=20,
    key="C",
    mode="major",
    sections=(SectionSpec("verse", "Sing me a song\nOver the sea"), SectionSpec("outro")),
    tags=make_tags("pop", "happy", "female", 20, key="C", mode="major"),
)

PINNED_44100 = "8991d9076bd9d39edd0a362e5b216d34812e9c7cc6c3604fbb38c8d77a933528"
PINNED_16000 = "dac6715c31cfca06789b31dd29ceaf9cdb4bb58e3e76eea605d8f94412fc3091"
PINNED_TAGS = "jazz happy female vocal 107 bpm F# major bright"
PINNED_LYRICS = "[chorus]\nWind, to sister from wheel\nA first this ride.\n"


@pytest.fixture(scope="module")
def songs() -> list[CorpusSong]:
    return [make_song(seed) for seed in range(12)]


def digest(*waves: np.ndarray) -> str:
    """Of 16-bit samples; exact everywhere because every sample is a whole number of steps."""
    samples = [np.rint(wave.astype(np.float64) * 32767).astype("<i2").tobytes() for wave in waves]
    return hashlib.sha256(b"".join(samples)).hexdigest()


# --- determinism ---


def test_a_short_song_is_the_same_bytes_on_any_machine() -> None:
    song = make_song(SHORT)
    assert digest(song.vocal, song.instrumental) == PINNED_44100
    assert digest(song.vocal16, song.instrumental16) == PINNED_16000


def test_a_seed_gives_the_same_spec_on_any_machine() -> None:
    spec = sample_spec(4)
    assert (spec.tags, spec.lyrics) == (PINNED_TAGS, PINNED_LYRICS)


def test_a_fresh_process_gives_the_same_labels() -> None:
    code = "from nano.corpus import make_song; print(make_song(3).labels)"
    root = Path(__file__).resolve().parents[2]
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert out.stdout.strip() == str(make_song(3).labels)


def test_seeds_differ() -> None:
    assert len({sample_spec(seed).lyrics + sample_spec(seed).tags for seed in SEEDS}) == len(SEEDS)


def test_samples_are_whole_steps_so_that_sums_are_exact(songs: list[CorpusSong]) -> None:
    for song in songs[:4]:
        for wave in (song.vocal, song.instrumental, song.mix, song.mix16):
            steps = wave.astype(np.float64) / STEP
            assert np.array_equal(steps, np.rint(steps))


# --- the grid ---


def test_a_sixteenth_is_a_whole_number_of_frames_and_no_tempo_doubles_another() -> None:
    assert [frames % 4 for frames in BEAT_FRAMES] == [0] * 5
    folded = sorted(math.log2(bpm(frames)) % 1 for frames in BEAT_FRAMES)
    gaps = np.diff([*folded, folded[0] + 1])
    assert gaps.min() > 2 * math.log2(1.04)  # two tolerances of a tempo estimate never overlap


def test_stems_have_exactly_882_and_320_samples_a_frame(songs: list[CorpusSong]) -> None:
    for song in songs:
        frames = song.labels.frames
        assert len(song.vocal) == len(song.instrumental) == 882 * frames
        assert len(song.vocal16) == len(song.instrumental16) == 320 * frames
        assert {w.dtype for w in (song.vocal, song.vocal16, song.mix, song.mix16)} == {np.dtype(np.float32)}


def test_events_start_on_frames_inside_their_song_and_section() -> None:
    for seed in SEEDS:
        events, labels = arrange(sample_spec(seed))
        edges = [section.start for section in labels.sections] + [labels.frames]
        for event in events:
            assert isinstance(event.frame, int)
            assert event.frames > 0
            home = np.searchsorted(edges, event.frame, side="right") - 1
            assert event.frame + event.frames <= edges[home + 1]


def test_notes_and_drums_fall_on_sixteenths() -> None:
    for seed in SEEDS:
        spec = sample_spec(seed)
        events, labels = arrange(spec)
        starts = [section.start for section in labels.sections]
        for event in events:
            if event.track == "instrumental":
                start = max(s for s in starts if s <= event.frame)
                assert (event.frame - start) % (spec.beat_frames // 4) == 0


def test_sections_are_whole_bars_in_a_row_and_as_long_as_their_text_says() -> None:
    for seed in SEEDS:
        spec = sample_spec(seed)
        labels = arrange(spec)[1]
        place = 0
        for section in labels.sections:
            assert section.start == place
            assert section.frames == section.bars * 4 * spec.beat_frames
            assert section.frames == section_frames(section.body, spec.genre, spec.beat_frames)
            assert 160 <= section.frames <= 480
            place += section.frames
        assert place == labels.frames
        assert labels.beats == tuple(range(0, place, spec.beat_frames))


def test_syllables_start_in_their_slots_and_pause_before_the_next() -> None:
    for seed in SEEDS:
        spec = sample_spec(seed)
        for section in arrange(spec)[1].sections:
            slots = section_slots(section.body, spec.genre, spec.beat_frames)[0] if spec.gender else []
            assert [s.onset - section.start for s in section.syllables] == [slot.frame for slot in slots]
            for slot, sung in zip(slots, section.syllables, strict=True):
                assert sung.onset <= sung.vowel_start < sung.vowel_end
                assert sung.vowel_end <= section.start + slot.frame + slot.frames - GAP_FRAMES
                assert sung.phonemes == slot.syllable.phonemes


@pytest.mark.parametrize(("genre", "beat"), [("pop", 20), ("pop", 28), ("hiphop", 24), ("folk", 24)])
def test_syllables_are_eighths_where_the_tempo_allows(genre: str, beat: int) -> None:
    slots, bars = section_slots("Sing me a song of summer rain", genre, beat)
    eighths = beat >= GENRES[genre].fastest_eighth
    assert slots[1].frame - slots[0].frame == (beat // 2 if eighths else beat)
    assert bars == (1 if eighths else 2)


def test_a_line_takes_as_many_bars_as_it_needs() -> None:
    slots, bars = section_slots("la " * 9 + "\nla", "pop", 28)  # eight eighths a bar
    assert bars == 3
    assert slots[9].frame == 2 * 112
    assert [slot.frames for slot in slots[7:]] == [14, 28, 28]
    assert section_slots("12 !?\n\n", "pop", 28) == ([], 2)


# --- stems ---


def test_the_same_event_is_the_same_samples(songs: list[CorpusSong]) -> None:
    assert note("piano", 60, 20) is note("piano", 60, 20)
    song = make_song(SHORT)
    bar = 80
    first, second = (song.instrumental[882 * bar * n :][: 882 * 5] for n in (0, 1))  # both on the tonic
    assert np.array_equal(first, second)


def test_both_rates_hold_the_same_sound(songs: list[CorpusSong]) -> None:
    from yuegguf.audio.dsp import resample

    for song in songs[:3]:
        low = resample(song.mix, 44_100, 16_000)
        # each sound is resampled alone and cut at its ends, which moves single samples a little
        assert np.sqrt(np.mean((low - song.mix16) ** 2)) < 2e-3
        lag = np.argmax(np.correlate(low[8000:24000], song.mix16[8010:23990], "valid"))
        assert lag == 10


def test_no_song_reaches_full_scale(songs: list[CorpusSong]) -> None:
    for song in songs:
        assert 0.2 < np.abs(song.mix).max() < 0.98
        assert np.abs(song.mix16).max() < 0.98
        assert np.array_equal(song.mix, song.vocal + song.instrumental)


def test_silent_sections_are_exactly_silent_and_sung_ones_are_not(songs: list[CorpusSong]) -> None:
    seen = set()
    for song in songs:
        for section in song.labels.sections:
            seen.add(bool(section.syllables))
            for wave, hop in ((song.vocal, 882), (song.vocal16, 320)):
                part = wave[section.start * hop : (section.start + section.frames) * hop]
                assert np.any(part) == bool(section.syllables)
    assert seen == {True, False}


def test_the_voice_stays_in_its_register() -> None:
    for seed in SEEDS:
        spec = sample_spec(seed)
        for section in arrange(spec)[1].sections:
            for sung in section.syllables:
                assert LOWEST[spec.gender] <= sung.pitch <= LOWEST[spec.gender] + SPAN


# --- the tables ---


def test_every_genre_is_complete() -> None:
    assert len(GENRES) >= 6
    for genre, table in GENRES.items():
        patterns = [*table.light.values(), *table.full.values(), table.bass, *table.chords]
        assert {len(pattern) for pattern in patterns} == {STEP_COUNT}
        assert {*table.light, *table.full} <= {*DRUMS}
        assert {*table.sounds} <= {*TIMBRES}
        for mode in MODES:
            for label in LABELS:
                numerals = progression(genre, mode, label)
                assert len(numerals) == 4
                assert chord(numerals[0], "A").name == ("A" if mode == "major" else "Am")


def test_the_case_of_a_label_does_not_matter() -> None:
    tags = "pop happy female vocal 125 bpm C major"
    low, high = (make_song(spec_from(tags, f"[{label}]\nOh hello")) for label in ("chorus", "Chorus"))
    assert np.array_equal(low.mix16, high.mix16)


def test_moods_and_labels_change_the_drums() -> None:
    assert drums("pop", "verse", True) != drums("pop", "chorus", True)
    assert drums("pop", "verse", True) != drums("pop", "bridge", True)
    assert drums("pop", "verse", True) != drums("pop", "verse", False)


def test_all_values_are_drawn() -> None:
    specs = [sample_spec(seed) for seed in range(300)]
    assert {s.genre for s in specs} == {*GENRES}
    assert {s.mood for s in specs} == {*MOODS}
    assert {s.beat_frames for s in specs} == {*BEAT_FRAMES}
    assert {(s.key, s.mode) for s in specs} == {(k, m) for k in KEYS for m in MODES}
    assert {s.gender for s in specs} == {"male", "female", ""}
    assert {x.label for s in specs for x in s.sections} == {*LABELS}
    assert {len(s.sections) for s in specs} == {1, 2, 3, 4}


def test_few_events_make_many_songs() -> None:
    """What a small model has to learn."""
    found: set[tuple[object, ...]] = set()
    total = 0
    for seed in range(200):
        events: list[Event] = arrange(sample_spec(seed))[0]
        found |= {event.sound for event in events}
        total += len(events)
    assert total > 12 * len(found)


def test_the_command_writes_a_folder(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "nano.corpus", str(tmp_path), "--count", "1", "--seed", "4"]
    subprocess.run(command, check=True, capture_output=True, cwd=root)
    folder = tmp_path / "000004"
    assert {p.name for p in folder.iterdir()} == {
        "vocal.wav", "instrumental.wav", "mix.wav", "tags.txt", "lyrics.txt", "labels.json"
    }  # fmt: skip
    assert json.loads((folder / "labels.json").read_text("utf-8"))["key"] == sample_spec(4).key
