"""Advice on tags: what is doubtful is said, and ordinary tags are not talked about."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import cli

from yuegguf.request.scripts import Script, model_mismatch
from yuegguf.request.tags import tag_notices, tag_words, tags_by_kind


@pytest.mark.parametrize(
    ("tags", "sentences"),
    [
        ("inspiring female uplifting pop airy vocal electronic bright vocal vocal", []),
        ("warm indie folk female airy vocal acoustic guitar hopeful", []),
        ("male and female duet", []),
        ("流行 女声", []),
        ("phonk pop glorp", ["these tags are not among YuE's most frequent ones: phonk, glorp"]),
        ("월드뮤직 pop", ["YuE reads tags in English, and may not know 월드뮤직"]),
        ("male female rock", ["the tags male and female contradict each other"]),
        ("sad, happy", ["the tags happy and sad contradict each other"]),
        (
            "instrumental piano",
            ["the tags say instrumental, and the lyrics have words; see --instrumental"],
        ),
        ("a1 b1 c1 d1 e1 f1 g1 h1", [
            "these tags are not among YuE's most frequent ones: a1, b1, c1, d1, e1, f1 and 2 more",
        ]),
    ],
)  # fmt: skip
def test_tags_are_advised_on(tags: str, sentences: list[str]) -> None:
    assert list(tag_notices(tags, True)) == sentences


def test_an_instrumental_may_be_tagged_so() -> None:
    assert tag_notices("instrumental piano", False) == ()


@pytest.mark.parametrize(
    ("scripts", "model", "sentence"),
    [
        (["Latin"], "en-cot", ""),
        (["Chinese", "Latin"], "zh-icl", ""),
        (["Japanese", "Korean"], "jp-kr-cot", ""),
        (["Chinese"], "nano", ""),
        ([], "zh-cot", ""),
        (["Chinese"], "en-cot", "en-cot was not trained on Chinese lyrics; the zh models fit"),
        (
            ["Cyrillic", "Latin"],
            "en-cot",
            "en-cot was not trained on Cyrillic lyrics; no model of YuE was trained on Cyrillic script",
        ),
        (
            ["Latin"],
            "zh-cot",
            "zh-cot was not trained on lyrics in Latin letters alone; the en models fit if this is English; "
            "YuE has none for other languages in Latin letters",
        ),
    ],
)
def test_a_model_of_other_languages_is_named(scripts: list[Script], model: str, sentence: str) -> None:
    assert model_mismatch(scripts, model) == sentence


def test_tags_are_never_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = (
        "run",
        "-g",
        "male female glorp",
        "--lyrics",
        "[verse]\nla",
        "-m",
        "nano",
        "--plan",
        "-o",
        tmp_path,
    )
    result = cli(capsys, *line)
    assert result.code == 0
    assert "note: the tags male and female contradict each other\n" in result.err
    assert "note: these tags are not among YuE's most frequent ones: glorp\n" in result.err


def test_the_models_tags_by_kind() -> None:
    kinds = tags_by_kind()
    assert {kind: len(tags) for kind, tags in kinds.items()} == {
        "genre": 145,
        "instrument": 140,
        "mood": 153,
        "gender": 16,
        "timbre": 194,
    }
    assert kinds["genre"][:5] == ("pop", "rock", "electronic", "classical", "r&b")
    assert all(tag == tag.strip().lower() for tags in kinds.values() for tag in tags)
    assert {"r&b", "airy", "acoustic", "b"} <= tag_words()
    assert not {"not", "specified", "unspecified", "none", ""} & tag_words()


def test_a_bar_between_tags_is_no_tag() -> None:
    assert tag_notices("pop | female｜bright", True) == ()
