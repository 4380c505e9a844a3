"""The documents: every link, command line, variable, exit code and name in them is true."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module, util
from pathlib import Path

import click
import pytest
import python_docs
from helpers import Capture
from test_import_rules import ROWS

import yuegguf
from yuegguf import errors, stopping
from yuegguf.cli import Program, _docs, _generate, cli
from yuegguf.cli._console import Console
from yuegguf.models import registry
from yuegguf.request.lyrics import KNOWN_LABELS

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = {"build", "dist", "songs", "nano-trained", "nano-figures", "bench-models", "fuzz-findings"}
FOLDERS = [p for p in ROOT.iterdir() if p.is_dir() and p.name[0] != "." and p.name not in SKIPPED]
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in folder.rglob("*.md"))])
}
"""Every Markdown file of the project, by its path."""
GUIDES = {
    n: t for n, t in DOCUMENTS.items() if n in ("README.md", "CONTRIBUTING.md") or n.startswith("docs/")
}

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}.*\n?)+", re.MULTILINE)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")
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


def parse(arguments: list[str]) -> None:
    """Read a command line as the program does, without running it. Raises ClickException, YueError."""
    group: click.Command = cli
    context = cli.make_context("yuegguf", list(arguments), obj=Console())
    while isinstance(group, click.Group):
        left = [*context._protected_args, *context.args]
        if not left and group.invoke_without_command:
            break
        name, command, rest = group.resolve_command(context, left)
        assert command is not None
        group, context = command, command.make_context(name, rest, parent=context)
    _check_names(context)


def _check_names(context: click.Context) -> None:
    """Model names, types and commands' own lists, which click does not know."""
    known = {"nano", *(entry.id for entry in registry.model_entries())}
    given = context.params.get("names", ()) if "pull" in context.command_path else ()
    for name in [*given, *filter(None, [context.params.get("stage1")])]:
        if not name.endswith(".gguf") and name.partition(":")[0] not in known:
            raise click.UsageError(f"there is no model {name}")
    if context.params.get("set_name", "") not in ("", None, *registry.model_sets()):
        raise click.UsageError(f"there is no set {context.params['set_name']}")


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


NAME = re.compile(r"`(yuegguf(?:\.\w+)+)`")


def resolve(dotted: str) -> object:
    """What a dotted name stands for. Raises LookupError where there is no such thing."""
    module = dotted
    while not _is_module(module):
        module = module.rpartition(".")[0]
    found: object = import_module(module)
    for part in filter(None, dotted.removeprefix(module).split(".")):
        if not hasattr(found, part):
            raise LookupError(f"{dotted} does not exist")
        found = getattr(found, part)
    return found


def _is_module(dotted: str) -> bool:
    try:
        return util.find_spec(dotted) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_dotted_name_exists(name: str) -> None:
    metadata = {"yuegguf.role", "yuegguf.tokenizer.model"}
    for dotted in {*NAME.findall(DOCUMENTS[name])} - metadata:
        resolve(dotted)


def test_a_wrong_name_is_caught() -> None:
    for dotted in ("yuegguf.stages.stage3", "yuegguf.stages.render.nothing", "yuegguf.YueError.nothing"):
        with pytest.raises(LookupError):
            resolve(dotted)


PATH = re.compile(r"`((?:tests|yuegguf|convert|onnx_codec|nano|benchmarks|docs)/[\w./-]+)`")
TEST = re.compile(r"(test_\w+\.py)(?:::(test_\w+))?")


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name != "CHANGELOG.md"])
def test_every_file_and_test_that_is_named_exists(name: str) -> None:
    for path in PATH.findall(DOCUMENTS[name]):
        assert (ROOT / path).exists(), path
    for file, test in TEST.findall(DOCUMENTS[name]):
        found = [*(ROOT / "tests").rglob(file)]
        assert found, file
        assert not test or f"def {test}" in found[0].read_text("utf-8"), test


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the tables below a heading, without their first two lines."""
    part = re.split(r"^#+ ", text.split(f"{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    found: list[list[str]] = []
    for table in re.findall(r"(?:^\|.*\n)+", part, re.MULTILINE):
        lines = table.splitlines()[2:]
        found += [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return found


def test_ten_questions_have_answers_that_exist() -> None:
    answers = rows(DOCUMENTS["docs/architecture.md"], "## Where is …?")
    assert len(answers) >= 10
    assert all(question.endswith("?") and NAME.findall(answer) for question, answer in answers)


def test_the_table_of_packages_is_that_of_the_import_rules() -> None:
    table = rows(DOCUMENTS["docs/architecture.md"], "## Packages")
    assert [SPAN.findall(packages) for _, packages, _ in table] == [
        row.split() for row in ROWS.split("\n") if row
    ]
    assert [int(number) for number, _, _ in table] == [*range(1, len(table) + 1)]


def test_every_public_name_is_documented() -> None:
    """Made by: PYTHONPATH=tests/support:. python tests/support/python_docs.py docs/python.md."""
    text = DOCUMENTS["docs/python.md"]
    assert re.findall(r"^### (\w+)$", text, re.MULTILINE)
    assert {*re.findall(r"^### (\w+)$", text, re.MULTILINE)} == {*yuegguf.__all__}
    assert text == python_docs.written(text)


def test_every_command_is_documented() -> None:
    """Made by: python -m yuegguf.cli._docs > docs/cli.md."""
    assert DOCUMENTS["docs/cli.md"] == _docs.document()


def environment_names(source: str) -> set[str]:
    """Variables that a module reads or sets, by their constant names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        texts: list[ast.expr] = []
        if isinstance(node, ast.Call) and re.search(
            r"environ\.\w+$|getenv$|user_folder$", ast.unparse(node.func)
        ):
            texts = node.args[:1]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("environ"):
            texts = [node.slice]
        elif isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]).endswith("environ"):
            texts = [node.left]
        found |= {str(text.value) for text in texts if isinstance(text, ast.Constant)}
    return found


def shipped() -> list[str]:
    folders = ("yuegguf", "convert", "onnx_codec")
    return [path.read_text("utf-8") for folder in folders for path in (ROOT / folder).rglob("*.py")]


def test_every_variable_is_documented_and_read() -> None:
    sources = [*shipped(), (ROOT / "tests" / "conftest.py").read_text("utf-8")]
    text = DOCUMENTS["docs/environment.md"]
    table = [name for row in rows(text, "## Read by yuegguf") for name in SPAN.findall(row[0])]
    assert {*table} == set[str]().union(*map(environment_names, sources))
    assert len(table) == len({*table})


def test_every_variable_that_messages_name_is_documented() -> None:
    named = set(re.findall(r"\b(?:YUEGGUF|HF|HTTPS?|SSL|CMAKE|G?OMP)_[A-Z_]+[A-Z]\b", "\n".join(shipped())))
    text = DOCUMENTS["docs/environment.md"]
    assert {"HF_TOKEN", "CMAKE_ARGS", "YUEGGUF_DEBUG"} < named <= {*SPAN.findall(text)}


def test_a_variable_is_found_however_it_is_read() -> None:
    source = (
        "os.environ.get('A')\nos.getenv('B')\nenviron['C']\nuser_folder('D', x)\n'E' in os.environ\nf('F')"
    )
    assert environment_names(source) == {"A", "B", "C", "D", "E"}


def kinds(error: type[errors.YueError]) -> Iterator[type[errors.YueError]]:
    yield error
    for kind in error.__subclasses__():
        yield from kinds(kind)


def test_every_exit_code_is_documented() -> None:
    codes = {kind.exit_code for kind in kinds(errors.YueError) if kind.__module__.startswith("yuegguf")}
    codes |= {0, click.UsageError.exit_code, _generate.EXIT_FAULT, stopping.EXIT_STOPPED}
    table = [int(row[0]) for row in rows(DOCUMENTS["docs/troubleshooting.md"], "## Exit codes")]
    assert table == sorted(codes)


def test_every_label_is_documented() -> None:
    text = DOCUMENTS["docs/lyrics.md"].partition("## Labels\n")[2].partition("## ")[0]
    listed = re.findall(r"`(\w+)`(?: ·|\n)", text)
    assert sorted(KNOWN_LABELS) == listed
