"""The documents: every link, command line, variable, exit code and name in them is true."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import python_docs
from command_lines import parse
from documents import DOCUMENTS, GUIDES, ROOT, SPAN
from helpers import Capture

from yuegguf.cli import Program, cli

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}.*\n?)+", re.MULTILINE)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def prose(text: str) -> str:
    """A document without its blocks of code."""
    return FENCE.sub("", text)


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives a document's headings."""
    found: set[str] = set()
    for title in HEADING.findall(prose(text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.add(name if name not in found else f"{name}-1")
    return found


def broken_links(name: str, text: str) -> list[str]:
    """Relative links of a document that lead to no file or to no heading."""
    found = []
    for link in LINK.findall(prose(text)):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (ROOT / name).parent / path
        if path and not target.exists():
            found.append(link)
            continue
        whole = target.read_text("utf-8") if path and anchor else text
        if anchor and anchor not in anchors(whole):
            found.append(link)
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    assert broken_links(name, DOCUMENTS[name]) == []


def test_a_broken_link_is_caught() -> None:
    text = "# A b, c\n[x](docs/none.md) [y](#a-b-c) [z](#none) [v](docs/lyrics.md#none) ![w](docs/demo.png)"
    assert broken_links("README.md", text) == ["docs/none.md", "#none", "docs/lyrics.md#none"]


def test_the_first_two_documents_are_short() -> None:
    assert len(DOCUMENTS["README.md"].splitlines()) <= 100
    assert len(DOCUMENTS["CONTRIBUTING.md"].splitlines()) < 80


def test_the_readme_leads_to_every_document() -> None:
    linked = set(LINK.findall(DOCUMENTS["README.md"]))
    assert {name for name in GUIDES if name != "README.md"} <= linked


def blocks(text: str, *languages: str) -> list[str]:
    """Blocks of code in some languages; indented ones count as those without a language."""
    fenced = [body for _, language, body in FENCE.findall(text) if language in languages]
    return fenced + (INDENTED.findall(prose(text)) if "" in languages else [])


def command_lines(text: str) -> Iterator[list[str]]:
    """The arguments of every `yuegguf …` in a document's blocks; a quotation may end some lines later."""
    for block in blocks(text, "", "sh"):
        begun = ""
        for line in block.splitlines():
            begun = f"{begun}\n{line}" if begun else re.sub(r"^\s*(?:\w+=\S+ )*", "", line)
            if not begun.startswith("yuegguf "):
                begun = ""
                continue
            try:
                words = shlex.split(begun, comments=True)
            except ValueError:  # a quotation that the next line closes
                continue
            begun = ""
            yield words[1 : words.index(">") if ">" in words else None]


LINES = [(name, line) for name, text in DOCUMENTS.items() for line in command_lines(text)]


@pytest.mark.parametrize(("name", "line"), LINES, ids=[f"{n}: {' '.join(x)[:60]}" for n, x in LINES])
def test_every_command_line_is_one(name: str, line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yuegguf.planning.hardware.physical_cores", lambda: 8)
    monkeypatch.setattr("yuegguf.cli._options.physical_cores", lambda: 8)
    parse(line)


def test_command_lines_are_found_in_most_documents() -> None:
    assert len(LINES) > 150
    assert {"README.md", "docs/cli.md", "docs/models.md", "docs/songs.md"} <= {name for name, _ in LINES}


@pytest.mark.parametrize(
    "line",
    ["sing", "run --tune", "run -n 40", "run --mix loud", "takes drop x", "pull --set none", "pull xx-cot"],
)
def test_a_wrong_command_line_is_caught(line: str) -> None:
    text = f"```\nyuegguf {line}  # which there is not\n```\n"
    for arguments in command_lines(text):
        with pytest.raises(click.ClickException):
            parse(arguments)
        break
    else:
        raise AssertionError("it was not found")


def commands(group: click.Group) -> Iterator[click.Command]:
    for command in (group.all_commands() if isinstance(group, Program) else group.commands).values():
        yield command
        if isinstance(command, click.Group):
            yield from commands(command)


OPTIONS = {
    name
    for c in (cli, *commands(cli))
    for p in c.params
    for name in (*p.opts, *p.secondary_opts)
    if "-" in name
} | {"--help"}


def wrong_spans(text: str) -> list[str]:
    """Code inside sentences that names an option or a command which there is not."""
    found = []
    for span in SPAN.findall(prose(text)):
        words = span.replace("…", " ").split()
        if not words or not re.match(r"yuegguf$|--[a-z]", words[0]):
            continue
        used = [word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)]
        names = [word for word in words[1:2] if words[0] == "yuegguf" and word.islower() and word[0] != "-"]
        if {*used} - OPTIONS or {*names} - {*cli.all_commands()}:
            found.append(span)
    return found


@pytest.mark.parametrize("name", [name for name in GUIDES if name not in ("docs/cli.md", "CONTRIBUTING.md")])
def test_options_and_commands_inside_sentences_are_true(name: str) -> None:
    text = DOCUMENTS[name].replace("`ruff format --check`", "")
    foreign = {"docs/lora.md": (), "docs/reliability.md": ("--replay", "--only render")}.get(name, ())
    assert [span for span in wrong_spans(text) if span not in foreign] == []


def test_a_wrong_option_inside_a_sentence_is_caught() -> None:
    text = "`--preview` `--preveiw` `yuegguf run … --plan` `yuegguf sing` `yuegguf run --plam` `--lora FILE`"
    assert wrong_spans(text) == ["--preveiw", "yuegguf sing", "yuegguf run --plam"]


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_the_python_example_runs(
    name: str, no_models: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    source = blocks(DOCUMENTS[name].partition(python_docs.MARK)[0], "python")
    assert source
    exec(compile("\n".join(source), name, "exec"), {})
    assert str(Path("songs")) in capsys.readouterr().out
    assert len([*tmp_path.glob("songs/*/mix.wav")]) == 1
