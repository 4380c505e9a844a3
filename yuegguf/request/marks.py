"""Marks that say who performs or what happens: singers, and stage directions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from yuegguf.request.labels import performers, read_label

_SINGERS = frozenset(
    (
        *("male", "female", "man", "woman", "men", "women", "boy", "girl", "boys", "girls", "both", "all"),
        *("together", "duet", "unison", "choir", "group", "everyone", "vocalist", "singer", "singers"),
        *("voice", "voices", "vocal", "vocals", "lead", "backing", "background", "backup", "harmony"),
        *("男", "女", "男女", "男声", "女声", "男聲", "女聲", "合", "合唱", "齐唱", "齊唱", "对唱", "對唱"),
        *("rap", "랩", "白", "念", "唱"),
        *(
            "男性",
            "女性",
            "全員",
            "二人",
            "男生",
            "女生",
            "남",
            "여",
            "남자",
            "여자",
            "함께",
            "같이",
            "모두",
            "합",
        ),
    )
)
_SINGER_TOKENS = _SINGERS | {"and", "with", "or", "the", "of", "m", "f"}
_DIRECTIONS = frozenset(
    (
        *("instrumental", "instrumentals", "music", "musical", "interlude", "intro", "outro", "solo"),
        *("guitar", "piano", "drum", "drums", "bass", "sax", "saxophone", "violin", "strings", "synth"),
        *("organ", "harmonica", "trumpet", "flute", "cello", "keyboard", "acoustic", "electric", "beat"),
        *("fade", "fades", "fading", "out", "in", "break", "breakdown", "drop", "build", "up", "pause"),
        *("silence", "applause", "laughs", "laughing", "laughter", "whisper", "whispered", "whispering"),
        *("whispers", "spoken", "speaking", "softly", "humming", "hums", "clapping", "claps", "cheering"),
        *("crowd", "sighs", "ad", "lib", "libs", "adlib", "adlibs", "repeat", "fadeout", "ends", "playing"),
        *(
            "gunshots",
            "gunshot",
            "fin",
            "おわり",
            "終わり",
            "くり返し",
            "繰り返し",
            "繰返し",
            "完",
            "终",
            "終",
            "끝",
        ),
        *("plays", "riff", "tempo", "slows", "slower", "faster", "continues", "vocalizing", "scatting"),
        *(
            "间奏",
            "間奏",
            "前奏",
            "尾奏",
            "独奏",
            "音乐",
            "音楽",
            "간주",
            "전주",
            "후주",
            "ソロ",
            "ギターソロ",
        ),
    )
)
_EXCLAMATIONS = frozenset(
    (
        *("oh", "ooh", "oooh", "ohh", "o", "ah", "aah", "ahh", "yeah", "yea", "yes", "yo", "hey", "hi", "ho"),
        *("na", "la", "da", "doo", "woo", "whoa", "wow", "uh", "huh", "mm", "mmm", "hmm", "no", "go", "come"),
        *("baby", "okay", "ok", "hallelujah", "amen", "please", "again", "right", "alright", "stop", "wait"),
        *("listen", "goodbye", "hello", "honey", "darling", "i", "you", "we", "me", "my", "why", "what"),
    )
)
_ROUND = re.compile(r"^\s*[(（]\s*([^()（）\s][^()（）]{0,59}?)\s*[)）]\s*[:：]?\s*(.*)$")
_PREFIX = re.compile(r"^\s*([^\W\d_]+(?: [^\W\d_]+)?(?: \d)?)\s*[:：)）]\s*(.*)$")
_SPEAKER = re.compile(r"^\s*([^\W\d_a-z](?:[^\W\d_a-z]|[.'& ]){1,38}?)(?:\s*\([^()]*\))?\s*[:：]\s*(.*)$")
_ALONE = (
    re.compile(r"[(（*]+\s*([^()（）*\s][^()（）*]{0,59}?)\s*[)）*]+"),
    re.compile(r"[<＜〈《≪]\s*([^<>＜＞〈〉《》≪≫]{1,60}?)\s*[>＞〉》≫]"),
    re.compile(r"(?:[※*#△☆★]+\s*([^※*#△☆★]{1,60}?)|([^※*#△☆★]{1,60}?)\s*[※*#△☆★]+)"),
)
_IN_BRACES = re.compile(r"\{[^{}]{1,60}\}")
_WORDS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_LABEL_LINE = re.compile(r"^\s*\[([^\[\]]+)\]")
_LISTED = re.compile(r"\s*(?:[,、&+/]|\band\b)\s*")


def is_singer(text: str, names: frozenset[str]) -> bool:
    """Whether a text names who performs: words such as female, or known `names` in small letters."""
    if all(part.lower() in names for part in _LISTED.split(text.rstrip(":： "))):
        return True
    words = [word.lower() for word in _WORDS.findall(text)]
    return (
        bool(words) and bool(_SINGERS & set(words)) and all(w in _SINGER_TOKENS or w in names for w in words)
    )


def is_direction(text: str) -> bool:
    """Whether a text in round brackets is a stage direction: all its words are known ones of such."""
    words = [word.lower() for word in _WORDS.findall(text)]
    return 0 < len(words) <= 6 and all(word in _DIRECTIONS for word in words)


def is_direction_line(line: str) -> bool:
    """Whether a line is a stage direction: words of such in brackets or beside a sign, or any in braces."""
    bare = line.strip()
    if _IN_BRACES.fullmatch(bare):
        return True
    found = next((match for pattern in _ALONE if (match := pattern.fullmatch(bare))), None)
    return found is not None and is_direction(found[found.lastindex or 0])


def singer_prefix(line: str, names: frozenset[str]) -> tuple[str, str] | None:
    """A singer mark at the start of a line, `(Anna) la` or `Female: la`, and the words after it.

    None where there is no such mark.
    """
    for pattern, known in ((_ROUND, names), (_PREFIX, frozenset[str]()), (_SPEAKER, names)):
        match = pattern.match(line)
        if match and is_singer(match[1], known):
            return line[: match.start(2)].strip(), match[2]
    return None


def performer_names(lines: Sequence[str]) -> frozenset[str]:
    """Names of performers in small letters: from labels, from `(Anna)` at the head of stanzas or lines, and
    from `ANNA:` in capitals where at least two such names begin lines.

    A name in round brackets counts only if none of its words is elsewhere in the lyrics, so that `(Forever)`
    after "forever" stays an echo.
    """
    labels = [match[1] for line in lines if (match := _LABEL_LINE.match(line))]
    named = [name for text in labels if read_label(text) for name in performers(text)]
    words_of = [name.split() for name in named if not any(word[0].islower() for word in name.split())]
    known = {name for words in words_of for name in (" ".join(words).lower(), words[0].lower())}
    rounds = [(at, match[1], match[2]) for at, line in enumerate(lines) if (match := _ROUND.match(line))]
    counts = Counter(word.lower() for line in lines for word in _WORDS.findall(line))
    inside = Counter(word.lower() for _, text, _ in rounds for word in _WORDS.findall(text))
    before_words = 0
    heads, inline = set(), set()
    for at, text, rest in rounds:
        words = _WORDS.findall(text)
        if (
            not _is_name(words)
            or read_label(text)
            or any(counts[w.lower()] > inside[w.lower()] for w in words)
        ):
            continue
        if rest:
            before_words += 1
            inline.add(text.lower())
        elif _is_stanza_head(lines, at):
            heads.add(text.lower())
    names = known | heads | (inline if before_words > 1 or heads else set())
    return frozenset(names | _speakers(lines))


def _speakers(lines: Sequence[str]) -> set[str]:
    """Names of a play in small letters: `ANNA:`, where lines begin with at least two of them."""
    found = [match[1] for line in lines if (match := _SPEAKER.match(line)) and match[1].isupper()]
    parts = {part.lower() for text in found for part in (text, *_LISTED.split(text)) if not read_label(part)}
    return parts if len({*found}) > 1 else set()


def _is_name(words: list[str]) -> bool:
    """Whether words have the shape of a name: one or two with a capital, none of them an exclamation."""
    return 1 <= len(words) <= 2 and all(w[0].isupper() and w.lower() not in _EXCLAMATIONS for w in words)


def _is_stanza_head(lines: Sequence[str], at: int) -> bool:
    """Whether a line opens a stanza and has words below it."""
    before, after = lines[at - 1].strip() if at else "", lines[at + 1].strip() if at + 1 < len(lines) else ""
    return (not before or before.startswith("[")) and bool(after) and after[0] not in "[(（"


def is_exclamation(text: str) -> bool:
    """Whether a text is lyrics although it stands in brackets: oh, yeah and the like."""
    words = [word.lower() for word in _WORDS.findall(text)]
    return bool(words) and all(word in _EXCLAMATIONS for word in words)
