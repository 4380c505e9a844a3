"""A queue's YAML file: options are the texts that are written there, within limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import Capture

from yuegguf.cli import _queue, _queue_file
from yuegguf.cli._console import Console
from yuegguf.cli.run import run
from yuegguf.errors import RequestError


def arguments(text: str, tmp_path: Path) -> list[list[str]]:
    """A queue's songs on the command line."""
    file = tmp_path / "q.yaml"
    file.write_text(text, encoding="utf-8")
    defaults, songs = _queue_file.read(file)
    return [
        [
            part
            for option in _queue_file.chosen(run, defaults, song.options).values()
            for part in option.arguments(Path("d"))
        ]
        for song in songs
    ]


def test_values_are_what_is_written(tmp_path: Path) -> None:
    text = """
defaults: {seed: 7, name: all, draft: true, preview: yes}
songs:
  - {name: 2024-01-31, seed: 010, temperature: 0.10, genre: No, lyrics: "null"}
  - {name: null, seed: ~, draft: false, preview: off, flash_attn: no}
  - {no-preview: false, no-flash-attn: true, format: [wav, mp3], lora: [a.gguf, b.gguf:0.5],
     lyrics_txt: x.txt}
  - {lyrics_txt: "-", name: -q, lora: one.gguf, genre:}
"""
    assert arguments(text, tmp_path) == [
        ["--seed=010", "--name=2024-01-31", "--draft", "--preview", "--temperature=0.10", "--genre=No",
         "--lyrics=null"],
        ["--no-preview", "--no-flash-attn"],
        ["--seed=7", "--name=all", "--draft", "--preview", "--no-flash-attn", "--format=wav,mp3",
         "--lora=a.gguf", "--lora=b.gguf:0.5", "--lyrics-txt=d/x.txt"],
        ["--seed=7", "--name=-q", "--draft", "--preview", "--lyrics-txt=-", "--lora=one.gguf"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\nsongs: [*b, *b]", "aliases are not read"),
        ("songs: " + "[" * 5000, "too many or too deep values"),
        ("songs: [" + "a," * 60_000 + "]", "too many or too deep values"),
        ("# " + "x" * 2**20 + "\nsongs: []", "is larger than 1 MiB"),
        ("songs: [" + "a," * 1001 + "]", "holds 1001 songs; use at most 1000 in a queue"),
        ("songs: [{lyrics: " + "'" + "x" * 100, r"is not YAML .*found end of stream"),
        ("songs: []\n---\nsongs: []", "is not YAML"),
        ("", "holds no list of songs"),
        ("songs: 3", "holds no list of songs"),
        ("- just text", "song 1: this is not a list of options"),
    ],
)
def test_a_queue_has_limits_that_are_reported(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=words):
        arguments(text, tmp_path)


def test_a_note_of_several_songs_comes_once(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUEGGUF_MODELS_DIR", str(tmp_path))  # holds none
    words = [{"lyrics": f"[Verse 1]\n{line}"} for line in ("la", "lo", "(x2)\nli")]
    plain = {"lyrics": "[verse]\nla"}
    file = tmp_path / "songs.yaml"
    file.write_text(json.dumps({"defaults": {"genre": "female pop"}, "songs": [*words, plain]}))
    assert len(_queue.read_queue(Console(), run, file)) == 4
    assert capsys.readouterr().err.splitlines() == [
        "note: song 1, 2, 3: labels are read as words that the model knows: [Verse 1] as [verse]",
        "note: no model is installed, so the bundled miniature 'nano' is used; it is not YuE's quality",
        "note: song 3: repeats are written out: (x2)",
    ]
