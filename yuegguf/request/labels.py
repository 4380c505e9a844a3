"""Section labels as people write them → the nearest word that the model knows."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from unicodedata import category

KNOWN_LABELS = frozenset(
    (
        *("verse", "chorus", "bridge", "intro", "outro", "prechorus", "postchorus", "interlude"),
        *("instrumental", "inst", "solo", "break", "breakdown", "build", "rap", "start", "end"),
        *("coda", "tag", "vamp", "ending", "opening"),
    )
)
"""Words that stay as they are written when one of them, or one with a number, stands alone in brackets."""

VOCAL_PARTS = frozenset(("verse", "chorus", "bridge", "prechorus", "postchorus"))
"""Labels of sections that people write words for."""
MAX_LABEL_CHARS = 100
"""Characters of a label; a longer text in brackets is none."""
MOST_TIMES = 20
"""Most times that a mark repeats something; `(x100)` is no such mark."""

_STRONG = {
    **{word: word for word in ("verse", "chorus", "bridge", "intro", "outro", "prechorus", "postchorus")},
    **{word: word for word in ("interlude", "instrumental")},
    **{"hook": "chorus", "refrain": "chorus", "verses": "verse", "introduction": "intro"},
    **{"prehook": "prechorus", "prerefrain": "prechorus", "posthook": "postchorus"},
    **{"strophe": "verse", "couplet": "verse", "strofa": "verse", "estrofa": "verse", "verso": "verse"},
    **{"vers": "verse", "zwrotka": "verse", "куплет": "verse", "estribillo": "chorus", "coro": "chorus"},
    **{"ritornello": "chorus", "refrão": "chorus", "refrao": "chorus", "refren": "chorus"},
    **{"refrein": "chorus", "припев": "chorus", "puente": "bridge", "pont": "bridge", "ponte": "bridge"},
    **{"brücke": "bridge", "бридж": "bridge", "precoro": "prechorus", "prerefrão": "prechorus"},
    **{"vorspiel": "intro", "вступление": "intro", "nachspiel": "outro", "кода": "outro"},
    **{"nakarat": "chorus", "reff": "chorus", "refräng": "chorus", "refreng": "chorus", "omkvæd": "chorus"},
    **{"kertosäe": "chorus", "refrén": "chorus", "ρεφρέν": "chorus", "приспів": "chorus"},
    **{"säkeistö": "verse", "kıta": "verse", "sloka": "verse", "κουπλέ": "verse", "bait": "verse"},
    **{"zwischenspiel": "interlude", "проигрыш": "interlude"},
}
"""Words that make a label wherever they stand in it."""
_WEAK = {
    **{word: word for word in ("inst", "solo", "break", "breakdown", "build", "rap", "start", "end")},
    **{word: word for word in ("coda", "tag", "vamp", "ending", "opening")},
    **{"drop": "chorus", "climax": "chorus", "theme": "instrumental", "buildup": "build"},
    **{"finish": "outro", "finale": "outro", "epilogue": "outro", "prologue": "intro"},
    **{"spoken": "verse", "stanza": "verse", "turnaround": "interlude", "middle8": "bridge"},
    **{"соло": "solo"},
}
"""Words that make a label at the beginning or the end of three at most."""
_EAST_ASIAN = {
    **{"预副歌": "prechorus", "預副歌": "prechorus", "前副歌": "prechorus", "导歌": "prechorus"},
    **{"導歌": "prechorus", "主歌": "verse", "副歌": "chorus", "高潮": "chorus", "桥段": "bridge"},
    **{"橋段": "bridge", "过渡": "bridge", "過渡": "bridge", "间奏": "interlude", "間奏": "interlude"},
    **{"前奏": "intro", "序曲": "intro", "尾奏": "outro", "尾声": "outro", "尾聲": "outro"},
    **{"结尾": "outro", "結尾": "outro", "后奏": "outro", "後奏": "outro", "独奏": "solo", "獨奏": "solo"},
    **{"说唱": "rap", "說唱": "rap", "念白": "verse", "独白": "verse", "獨白": "verse", "旁白": "verse"},
    **{"纯音乐": "instrumental", "純音樂": "instrumental", "伴奏": "instrumental"},
    **{"サビ": "chorus", "コーラス": "chorus", "フック": "chorus", "リフレイン": "chorus"},
    **{"プリコーラス": "prechorus", "bメロ": "prechorus", "aメロ": "verse", "ヴァース": "verse"},
    **{"バース": "verse", "cメロ": "bridge", "dメロ": "bridge", "ブリッジ": "bridge", "イントロ": "intro"},
    **{"アウトロ": "outro", "エンディング": "outro", "ラップ": "rap", "ソロ": "solo", "セリフ": "verse"},
    **{"台詞": "verse", "語り": "verse", "番": "verse"},
    **{"프리코러스": "prechorus", "프리": "prechorus", "후렴": "chorus", "코러스": "chorus", "훅": "chorus"},
    **{"싸비": "chorus", "벌스": "verse", "절": "verse", "브릿지": "bridge", "브리지": "bridge"},
    **{"간주": "interlude", "인트로": "intro", "전주": "intro", "도입부": "intro", "아웃트로": "outro"},
    **{"아웃로": "outro", "후주": "outro", "엔딩": "outro", "내레이션": "verse", "나레이션": "verse"},
    **{"랩": "rap", "솔로": "solo", "독주": "solo"},
    **{"điệp khúc": "chorus", "phiên khúc": "verse", "कोरस": "chorus", "मुखड़ा": "chorus"},
    **{"अंतरा": "verse", "ท่อนฮุก": "chorus", "ท่อนสร้อย": "chorus", "ท่อน": "verse"},
    **{"פזמון": "chorus", "בית": "verse", "גשר": "bridge", "لازمة": "chorus", "كورس": "chorus"},
    **{"مقطع": "verse", "بيت": "verse", "جسر": "bridge"},
}
"""Words of scripts without spaces or with combining marks, with a number before or after."""
_EAST_SHAPE = re.compile(
    r"(?:第?[\d一二三四五六七八九十]+[段部]?|最[后後]的?|最終|ラスト|ラス|大|落ち|마지막|제?\d+)?\s*"
    rf"(?P<word>{'|'.join(sorted(map(re.escape, _EAST_ASIAN), key=len, reverse=True))})"
    r"(?:구|구간|部分|段)?\s*[\d一二三四五六七八九十]*\s*(?:마디|小節|小节)?",
    re.IGNORECASE,
)
_SIGNS = " ※*＊#♪♫★☆"
_WORD = re.compile(r"[^\W\d_]+")
_APART = re.compile(r"\s*(?:[:：|/,、]|\s[-–—~]\s?)\s*")
_TIMES = r"(?:[x×]\s*(?P<{0}1>\d{{1,2}})|(?P<{0}2>\d{{1,2}})\s*[x×])"
_LABEL_TIMES = re.compile(rf"^(?P<words>.*?)\s*[(（]?\b{_TIMES.format('n')}\s*[)）]?$", re.IGNORECASE)
_AGAIN = re.compile(
    r"^(?:(?:repeat|again)\b|重复|重複|重唱|反复|반복)\s*"
    r"|\s*[(（]?(?:\b(?:repeats?|again|reprise)\b|重复|重複|反复|くり返し|繰り返し|繰返し|반복)[)）]?$",
    re.IGNORECASE,
)
_QUALIFIERS = frozenset(
    (
        *("first", "second", "third", "fourth", "last", "final", "one", "two", "three", "four", "five"),
        *("six", "i", "ii", "iii", "iv", "v", "vi", "big", "double", "half", "the", "a", "b", "c", "full"),
        *("short", "extended", "pre", "post", "part", "pt"),
    )
)


@dataclass(frozen=True)
class Label:
    """A label as read."""

    word: str
    """The word that stands for it in the prompt."""
    times: int = 1
    """Repetitions of the section."""
    again: bool = False
    """Whether it stands for an earlier section of its word: `[Repeat Chorus]`."""
    pure: bool = True
    """Whether the label is nothing but a kind of section, its number and the like."""
    strong: bool = True
    """Whether its word seldom means anything else: chorus, but not drop."""


_CLOSING = re.compile(r"\s*(?:/+|end[\s_-]{1,3}of[\s_-]{1,3}(?:the[\s_-]{1,3})?)(?P<label>.*)", re.IGNORECASE)


def is_closing(written: str) -> bool:
    """Whether a text in brackets closes a section: `/verse`, `end of chorus`."""
    match = _CLOSING.fullmatch(written) if len(written) <= MAX_LABEL_CHARS else None
    label = read_label(match["label"].strip()) if match else None
    return label is not None and (label.strong or written.lstrip().startswith("/"))


@lru_cache(maxsize=1024)
def read_label(written: str) -> Label | None:
    """The label that a text in brackets is; None if no known word decides."""
    if len(written) > MAX_LABEL_CHARS or is_closing(written):
        return None
    words, times = _without_times(written.strip())
    plain = _AGAIN.sub("", words)
    again = plain != words and bool(plain)
    plain = plain.strip() or words
    if re.fullmatch(r"\w+", written) and plain_word(plain) in KNOWN_LABELS:
        return Label(written, strong=plain_word(plain) in _STRONG)
    known = _known_word(plain)
    return replace(known, times=times, again=again) if known else None


def is_one_word(text: str) -> bool:
    """Whether a text is one word: letters with their marks, digits and underscores."""
    return all(sign == "_" or sign.isalnum() or category(sign).startswith("M") for sign in text)


def plain_word(label: str) -> str:
    """A label in small letters, without its number: `Verse_2` is verse."""
    return label.rstrip("0123456789_").lower()


def performers(written: str) -> list[str]:
    """The names after a label's colon or dash: `[Verse 1: A, B & C]` has three."""
    parts = re.split(r"\s*[:：]\s*|\s[-–—]\s", written, maxsplit=1)
    names = re.split(r"[,、&+/]|\band\b|\bfeat\.?|\bft\.", parts[1]) if len(parts) == 2 else []
    return [name.strip() for name in names if name.strip()]


def _without_times(written: str) -> tuple[str, int]:
    """A label without its `x2`, and how often it comes."""
    match = _LABEL_TIMES.match(written)
    times = int(match["n1"] or match["n2"]) if match else 1
    return (match["words"], times) if match and 1 <= times <= MOST_TIMES else (written, 1)


def _known_word(written: str) -> Label | None:
    """The label of the word that decides; None if no word does."""
    main, *rest = [part for part in _APART.split(written) if part] or [""]
    shape = _EAST_SHAPE.fullmatch(main.strip(_SIGNS))
    if shape:
        return Label(_EAST_ASIAN[shape["word"].lower()], pure=not rest)
    words = _words_of(main)
    strong = [word for word in words if word in _STRONG] if len(words) <= 6 else []
    if strong:
        return Label(_STRONG[strong[0]], pure=not rest and _QUALIFIERS.issuperset({*words} - {*_STRONG}))
    ends = [*words[:1], *words[-1:]] if len(words) <= 3 else []
    weak = [word for word in ends if word in _WEAK]
    if weak:
        pure = not rest and _QUALIFIERS.issuperset({*words} - {*_WEAK})
        return Label(_WEAK[weak[0]], pure=pure, strong=False)
    later = [word for part in rest for word in _words_of(part) if word in _STRONG]
    if later and len(_words_of(written)) <= 6:
        return Label(_STRONG[later[0]], pure=False)
    return None


def _words_of(text: str) -> list[str]:
    """Words in small letters, `pre chorus` and the like as one."""
    lower = re.sub(r"\b(middle|mid)[\s-]*(?:8|eight)\b", "middle8", text.lower())
    lower = re.sub(r"\b(pre|post)[\s_-]+(?=(chorus|hook|refrain|coro|refrão)\b)", r"\1", lower)
    lower = re.sub(r"\bbuild[\s-]+up\b", "buildup", lower)
    return ["middle8" if word == "middle" and "middle8" in lower else word for word in _WORD.findall(lower)]
