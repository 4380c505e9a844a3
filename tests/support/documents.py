"""The Markdown files of the project, and their tables."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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

SPAN = re.compile(r"`([^`\n]+)`")


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the tables below a heading, without their first two lines."""
    part = re.split(r"^#+ ", text.split(f"{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    found: list[list[str]] = []
    for table in re.findall(r"(?:^\|.*\n)+", part, re.MULTILINE):
        lines = table.splitlines()[2:]
        found += [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return found
