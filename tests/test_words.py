"""Words of the sources: docstrings are noun phrases or verb sentences, and no word is a metaphor."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    path.relative_to(ROOT).as_posix()
    for folder in ("yuegguf", "convert", "onnx_codec", "integrations")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
FRAGMENT = re.compile(r"\s*(?:Of|What|Whose|Where|How|By|Who|The same|One of)\b")
"""Beginning of a docstring that is no noun phrase and no sentence."""
METAPHORS = re.compile(
    r"sings?|sang|sung|singing|hears?|heard|hearing|ears?|judge[sd]?|judging|choirs?|wish(es|ed)?"
    r"|foretells?|foretold|guess(es|ed|er)?"
)
"""Words for which the field has terms: generate, decode, detect, batch, request, estimate, draft."""
EXCEPTIONS = {
    ("yuegguf/request/marks.py", "choir"): "a mark of pasted lyrics: who performs a line",
    ("yuegguf/request/tags.py", "choir"): "a word of users' tags",
}
"""File and word → reason."""


def docstrings(source: str) -> Iterator[str]:
    """Docstrings of a module, its classes and functions, and documentation of fields and constants."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            texts = [statement.value for statement in node.body if isinstance(statement, ast.Expr)]
            for text in texts:
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    yield text.value


def metaphors(source: str) -> set[str]:
    """Metaphors in identifiers, docstrings, comments and messages, in lower case."""
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", source)}
    return {word for word in words if METAPHORS.fullmatch(word)}


@pytest.mark.parametrize("name", SOURCES)
def test_docstrings_are_noun_phrases_or_sentences(name: str) -> None:
    source = (ROOT / name).read_text("utf-8")
    assert [text for text in docstrings(source) if FRAGMENT.match(text)] == []


@pytest.mark.parametrize("name", SOURCES)
def test_no_word_is_a_metaphor(name: str) -> None:
    excepted = {word for file, word in EXCEPTIONS if file == name}
    assert metaphors((ROOT / name).read_text("utf-8")) == excepted


@pytest.mark.parametrize(
    "source",
    [
        '"""What a module is."""',
        'class A:\n    x: int\n    """Of each row."""',
        'def f():\n    """The same as g."""',
        'X = 1\n"""How often."""',
        'class A:\n    def f(self):\n        """\n        By whom.\n        """',
    ],
)
def test_a_fragment_is_caught(source: str) -> None:
    assert [text for text in docstrings(source) if FRAGMENT.match(text)]


@pytest.mark.parametrize("source", ["def _sing_all(): ...", "class FaultJudge: ...", "# HEARD", "'I guess'"])
def test_a_metaphor_is_caught(source: str) -> None:
    assert metaphors(source)


def test_plain_words_pass() -> None:
    assert not metaphors("# a single song, using the nearest years; missing closing rows")
