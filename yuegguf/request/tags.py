"""Advice on genre tags: what the model may not know, and what contradicts. Nothing is refused."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources

from yuegguf.request.changes import listed, shortened

_CONTRADICTIONS = (
    ("male", "female"),
    ("fast", "slow"),
    ("happy", "sad"),
    ("bright", "dark"),
    ("calm", "aggressive"),
    ("quiet", "loud"),
)
"""Tags that seldom belong into one song; male and female do in a duet."""
_TOGETHER = frozenset(("duet", "choir", "group", "voices", "and", "&", "both"))
_FILLING = frozenset(
    ("a", "an", "and", "&", "the", "with", "of", "in", "to", "style", "song", "music", "duet")
)
_INSTRUMENTAL = frozenset(("instrumental", "no-vocals", "no-vocal"))


@lru_cache(maxsize=1)
def tags_by_kind() -> dict[str, tuple[str, ...]]:
    """The 200 most frequent tags of each kind, as YuE's authors list them (Apache-2.0), the commonest first.

    In lower case, each once, without those that say that nothing was specified.
    """
    lines = (resources.files("yuegguf") / "data" / "tags.txt").read_text("utf-8").splitlines()
    kinds = (line.partition(": ") for line in lines)
    return {kind: tuple(tags.split(", ")) for kind, _, tags in kinds}


@lru_cache(maxsize=1)
def tag_words() -> frozenset[str]:
    """Words of these tags; "r&b" is one, and both of its parts are."""
    tags = (tag for kind in tags_by_kind().values() for tag in kind)
    return frozenset(
        part for tag in tags for word in tag.split() for part in (word, *word.split("&")) if part
    )


def tag_notices(tags: str, has_words: bool) -> tuple[str, ...]:
    """A sentence for each kind of doubt about tags; `has_words` = the lyrics have some."""
    words = list(dict.fromkeys(word for word in re.split(r"[\s,;，、；/|｜]+", tags.lower()) if word))
    known = tag_words()
    unknown = [word for word in words if word not in known and word not in _FILLING]
    foreign = [word for word in unknown if any(sign.isalpha() and ord(sign) > 0x24F for sign in word)]
    odd = [word for word in unknown if word not in foreign]
    sentences = []
    if foreign:
        sentences.append(
            f"YuE reads tags in English, and may not know {listed([shortened(word) for word in foreign])}"
        )
    if odd:
        sentences.append(
            f"these tags are not among YuE's most frequent ones: {listed([shortened(word) for word in odd])}"
        )
    for one, other in _CONTRADICTIONS:
        if one in words and other in words and not _TOGETHER.intersection(words):
            sentences.append(f"the tags {one} and {other} contradict each other")
    if has_words and _INSTRUMENTAL.intersection(words):
        sentences.append("the tags say instrumental, and the lyrics have words; see --instrumental")
    return tuple(sentences)
