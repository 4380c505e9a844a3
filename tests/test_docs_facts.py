"""Names, tables, variables, exit codes and labels in the documents are those of the program."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module, util

import click
import message_docs
import pytest
import python_docs
from documents import DOCUMENTS, ROOT, SPAN, rows
from test_import_rules import ROWS

import yuegguf
from yuegguf import errors, stopping
from yuegguf.cli import _docs, _generate
from yuegguf.request.labels import KNOWN_LABELS

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


def test_every_sentence_of_an_error_is_documented() -> None:
    """Made by: PYTHONPATH=tests/support:. python tests/support/message_docs.py docs/messages.md."""
    assert DOCUMENTS["docs/messages.md"] == message_docs.written()
    known = {code for code, _, _ in message_docs.messages()}
    assert known == set(message_docs.TITLES)


def environment_names(source: str) -> set[str]:
    """Variables that a module reads or sets, by their constant names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        texts: list[ast.expr] = []
        if isinstance(node, ast.Call) and re.search(
            r"environ\.\w+$|getenv$|user_folder$", ast.unparse(node.func)
        ):
            texts = node.args[:1]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("click.option"):
            texts = [each.value for each in node.keywords if each.arg == "envvar"]
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


UPSTREAM = re.compile(r"github\.com/multimodal-art-projection/YuE(?![\w-])(?P<rest>[^\s)\"'`>]*)")
"""Link to upstream's repository."""


def links_to_main(text: str) -> list[str]:
    """Links to upstream that lead to its main branch, where YuE2 is."""
    links = [match["rest"].rstrip(".,;") for match in UPSTREAM.finditer(text)]
    return [rest for rest in links if not re.match(r"/(tree|blob)/YuE-v1(/|$)|/issues/\d+$", rest)]


def test_links_to_upstream_lead_to_the_branch_of_yue_v1() -> None:
    sources = [path for name in ("yuegguf", "convert", "onnx_codec") for path in (ROOT / name).rglob("*.py")]
    files = [*DOCUMENTS, *sources, ROOT / "models.toml", ROOT / "pyproject.toml"]
    assert len(files) > 200
    assert {
        str(path): rest for path in files if (rest := links_to_main((ROOT / path).read_text("utf-8")))
    } == {}


@pytest.mark.parametrize("rest", ["", "/tree/main", ".", "/blob/YuE-v12/a.py", "/tree/YuE"])
def test_a_link_to_the_main_branch_is_caught(rest: str) -> None:
    base = "https://github.com/multimodal-art-projection/YuE"
    assert links_to_main(f"see {base}{rest} there")
    assert not links_to_main(f"({base}/tree/YuE-v1), {base}/blob/YuE-v1/a.md and {base}-extend")
