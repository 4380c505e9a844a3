"""Every sentence of an error, read from the sources, as docs/messages.md.

PYTHONPATH=tests/support:. python tests/support/message_docs.py docs/messages.md
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from yuegguf import errors

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("yuegguf", "convert", "onnx_codec")
EXIT_CODES = {
    name: kind.exit_code
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, errors.YueError)
}
"""Name of an error's class → the exit code of a command that it ends."""
TITLES = {
    errors.RequestError.exit_code: "Lyrics, tags, audio and options",
    errors.ModelNotFound.exit_code: "Missing models and files",
    errors.NotEnoughMemory.exit_code: "Memory",
    errors.DamagedFile.exit_code: "Damaged and wrong files",
    errors.DownloadError.exit_code: "Stops and downloads",
    errors.YueError.exit_code: "The disk, the engines and everything else",
}
HEAD = """# Messages

Each sentence that an error can have, by the exit code of the command, with the advice that follows it; `…`
stands for names and numbers. The general advice is in [troubleshooting](troubleshooting.md).
"""


def written() -> str:
    """The document."""
    parts = [HEAD]
    for code, title in sorted(TITLES.items()):
        rows = {(message, hint) for found, message, hint in messages() if found == code}
        table = [f"| {message} | {hint} |" for message, hint in sorted(rows)]
        head = [f"## {title} (exit code {code})", "", "| message | advice |", "|---|---|"]
        parts.append("\n".join([*head, *table]))
    return "\n".join(part + "\n" for part in parts)


def messages() -> Iterator[tuple[int, str, str]]:
    """Exit code, sentence and advice of each error whose sentence stands in the sources."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                    code = EXIT_CODES.get(node.func.id)
                    message, hint = (*map(_text, node.args[:2]), "")[:2]
                    if code is not None and message.strip("… "):
                        yield code, _cell(message), _cell(hint)


def _text(node: ast.expr) -> str:
    """A text with "…" for what is only known when it is shown."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return "…"


def _cell(text: str) -> str:
    """A text that keeps its characters in a Markdown table."""
    for character in "\\*_<>[]":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(written(), encoding="utf-8")
