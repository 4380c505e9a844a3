"""A procedural studio: songs with stems and labels, deterministic by seed. Development only, numpy only.

    song = make_song(7)                      CorpusSong: stems at 44.1 and 16 kHz, tags, lyrics, labels
    song = make_song(spec_from(tags, lyrics))     the same for a request of one's own
    python -m nano.corpus FOLDER --count 20  wav files and labels as JSON

Time is counted in frames of 20 ms (882 samples at 44.1 kHz, 320 at 16 kHz), the frames of the codec. A
sixteenth is a whole number of frames, and every drum stroke, note, chord, consonant and vowel starts on
one. A sound is a function of (instrument, pitch, frames), nothing else: the same event is the same
samples everywhere. A seed draws the spec and the melody; the chords, drums and lengths follow from tags,
labels and text.

The tags line, in any order, case ignored; tempo and key are always there, the other words may be missing:

| word | values | what it does |
|---|---|---|
| genre | pop rock folk electronic jazz hiphop | drums, bass, chords, timbres, progressions (`genres`) |
| mood | happy sad calm energetic | dense or sparse patterns, bright or mellow chords |
| second mood word | bright dark soft driving | says the same as the mood, in that order |
| voice | female vocal, male vocal, instrumental | 220-370 Hz, 110-185 Hz, nobody sings |
| tempo | 150 125 107 94 83 bpm | beats of 20, 24, 28, 32, 36 frames |
| key and mode | C C# D D# E F F# G G# A A# B, major minor | tonic, chords, pentatonic scale |

Sections: verse and bridge play the light drums, chorus the full ones; chorus and bridge have the second
chord progression. Lines of text take whole bars (`timing`); a section without text has two bars, a lead
melody and an exactly silent vocal stem. Spelling rules turn any text into syllables (`spelling`).
"""

from nano.corpus.labels import ChordLabel, Labels, SectionLabel, SyllableLabel
from nano.corpus.render import CorpusSong, make_song
from nano.corpus.spec import SectionSpec, SongSpec, Tags, make_tags, parse_tags, sample_spec, spec_from
from nano.corpus.spelling import CONSONANTS, VOWELS, Syllable, syllables
from nano.corpus.timing import section_frames, section_slots

__all__ = [
    "CONSONANTS", "VOWELS", "ChordLabel", "CorpusSong", "Labels", "SectionLabel", "SectionSpec", "SongSpec",
    "Syllable", "SyllableLabel", "Tags", "make_song", "make_tags", "parse_tags", "sample_spec",
    "section_frames", "section_slots", "spec_from", "syllables",
]  # fmt: skip
