"""The words of the corpus's own lyrics, and the lines made of them."""

from __future__ import annotations

from nano.corpus.draws import Draws
from nano.corpus.spelling import syllables

NOUNS = [
    "sun", "moon", "sea", "rain", "snow", "wind", "wave", "river", "water", "garden", "summer", "winter",
    "morning", "evening", "night", "day", "dawn", "sky", "star", "tree", "bird", "bee", "road", "street",
    "door", "window", "room", "floor", "fire", "light", "shadow", "mirror", "paper", "letter", "song",
    "dream", "heart", "hand", "home", "hill", "stone", "silver", "lantern", "harbour", "candle", "meadow",
    "rose", "leaf", "field", "moor", "shore", "boat", "sail", "rope", "bell", "flute", "drum", "piano",
    "city", "tower", "bridge", "train", "wheel", "mother", "father", "sister", "brother", "lover",
    "stranger", "dancer", "singer", "hunter", "lady", "baby", "queen", "fool", "thunder", "feather",
    "pillow", "yellow", "valley", "tomorrow", "memory", "melody", "harmony", "kettle", "apple", "table",
    "bottle", "world",
]  # fmt: skip
VERBS = [
    "sing", "sleep", "see", "feel", "need", "keep", "leave", "meet", "hear", "run", "turn", "burn",
    "learn", "wonder", "remember", "follow", "know", "go", "hold", "roll", "show", "grow", "blow", "open",
    "move", "lose", "choose", "call", "fall", "walk", "talk", "paint", "carry", "find", "ride", "fly",
    "try", "shine", "hide", "wait", "stay", "play", "pray", "wake", "make", "take", "save", "send",
    "bend", "tell", "let", "rest", "step", "dance", "begin", "bring", "give", "live", "whisper", "gather",
    "linger", "surrender",
]  # fmt: skip
ADJECTIVES = [
    "sweet", "deep", "free", "real", "easy", "happy", "little", "silent", "open", "golden", "lonely",
    "slow", "low", "cold", "old", "broken", "blue", "new", "true", "cool", "smooth", "gentle", "better",
    "tender", "ever", "never", "early", "first", "dirty", "warm", "dark", "far", "hard", "tall", "calm",
    "high", "bright", "white", "wild", "mild", "late", "brave", "safe", "pale", "grey", "ready", "heavy",
    "many", "merry", "only", "holy",
]  # fmt: skip
LINKS = ["over", "under", "into", "after", "on", "by", "for", "with", "to", "in", "from", "near"]
HEADS = ["the", "my", "your", "our", "a", "her", "no"]
CRIES = ["oh", "hey", "la", "na", "you", "me", "we", "now", "go", "away"]
OTHERS = [
    "about", "above", "across", "again", "all", "along", "alone", "always", "and", "angel", "are", "around",
    "back", "be", "beautiful", "before", "behind", "believe", "belong", "below", "beside", "better",
    "between", "beyond", "body", "bread", "breath", "breathe", "bringing", "but", "came", "can", "change",
    "child", "city", "climb", "close", "closer", "cloud", "colour", "come", "coming", "could", "crowd", "cry",
    "dear", "did", "do", "down", "dreaming", "drift", "each", "earth", "echo", "empty", "end", "even",
    "every", "everything", "eyes", "face", "falling", "fear", "few", "fight", "finds", "flower", "forever",
    "forget", "forgive", "found", "friend", "gone", "good", "goodbye", "ground", "half", "hear", "heaven",
    "hello", "here", "him", "hope", "hour", "house", "how", "hurry", "if", "inside", "is", "island", "it",
    "just", "kind", "kiss", "kitchen", "last", "laughter", "lead", "left", "life", "like", "line", "lips",
    "long", "look", "lost", "love", "magic", "man", "middle", "mind", "mine", "moment", "mountain", "music",
    "name", "next", "nobody", "not", "nothing", "ocean", "of", "off", "once", "one", "only", "out", "past",
    "people", "place", "promise", "question", "quiet", "radio", "remain", "right", "rise", "rising", "round",
    "running", "sailing", "same", "say", "second", "secret", "seven", "shadows", "she", "should", "silence",
    "simple", "singing", "skin", "sleeping", "smile", "so", "some", "somebody", "someone", "something",
    "soul", "sound", "space", "spring", "stand", "start", "still", "story", "strong", "stars", "summertime",
    "sunlight", "sweetly", "tears", "that", "there", "they", "thing", "this", "three", "through", "time",
    "today", "together", "tonight", "touch", "town", "travel", "trying", "two", "until", "up", "us", "velvet",
    "voice", "waiting", "was", "way", "weather", "weight", "were", "what", "when", "where", "whistle", "why",
    "will", "wing", "wish", "without", "woman", "word", "yesterday", "young",
]  # fmt: skip
"""Words of any class, put in anywhere, so that lyrics from outside are not all new."""
OTHER_PERCENT = 20
WORDS = tuple(dict.fromkeys([*NOUNS, *VERBS, *ADJECTIVES, *LINKS, *HEADS, *CRIES, *OTHERS]))
"""Everything that a line of the corpus can contain, once each."""

CLASSES = {"n": NOUNS, "v": VERBS, "a": ADJECTIVES, "l": LINKS, "h": HEADS, "c": CRIES}
FORMS = (
    "h n v l h n", "h a n", "v l h a n", "c c v l h n", "a n a n", "v h n v h n", "h n v a", "c h n v",
    "l h a n h n v", "v h n", "a l h n", "h a n v", "n l n l n", "c c a n",
)  # fmt: skip
"""Lines as word classes."""
FEWEST, MOST = 4, 8
"""Syllables of a line."""


def make_line(draws: Draws) -> str:
    """A line of four to eight syllables, with a capital."""
    while True:
        text = " ".join(_word(draws, kind) for kind in draws.choice(FORMS).split())
        if FEWEST <= len(syllables(text)) <= MOST:
            return _punctuated(draws, text.capitalize())


def _word(draws: Draws, kind: str) -> str:
    return draws.choice(OTHERS if draws.chance(OTHER_PERCENT) else CLASSES[kind])


def _punctuated(draws: Draws, text: str) -> str:
    """Some lines have a comma inside or a sign at their end; nobody sings them."""
    if draws.chance(15):
        text = text.replace(" ", ", ", 1)
    return text + draws.choice(",.!?") if draws.chance(15) else text
