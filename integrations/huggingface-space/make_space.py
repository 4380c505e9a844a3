"""Fill a folder with what a Hugging Face Space of yuegguf needs: `python make_space.py FOLDER`.

A Space is a git repository with a Dockerfile and a README.md at its top; clone a new one, fill it, commit
and push, with git-lfs installed. The README.md that the site made is replaced; its title and colours stay.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FILES = ("pyproject.toml", "setup.py", "models.toml", "LICENSE", ".dockerignore")
PACKAGES = ("cmake", "yuegguf", "convert", "onnx_codec")
IGNORED = ("__pycache__", "*.egg-info", "*.so", "*.pyd")
LARGE = ("*.gguf", "*.onnx")
"""Binary files, which the site takes by git-lfs alone."""
SITE_README = re.compile(
    r"---\n(?P<head>(?:\w+:.*\n)*sdk: docker\n(?:\w+:.*\n)*)---\s*"
    r"(?:Check out the configuration reference at https://huggingface\.co/docs/hub/spaces-config-reference)?\s*"
)
"""README.md of a new Docker Space, in which nobody has written anything."""
KEPT = re.compile(r"^(title|emoji|colorFrom|colorTo):.*$", re.MULTILINE)
"""Lines of its head that were chosen when the Space was made."""
COMMAND = """
# a Space is addressed by its own name; the platform sets SPACE_HOST
ENTRYPOINT []
ENV SPACE_SONGS=/songs
CMD ["sh", "-c", "exec yuegguf serve --host 0.0.0.0 --songs $SPACE_SONGS --allow-host $SPACE_HOST"]
"""


def make(target: Path) -> list[str]:
    """Write the files of a Space; returns their names. Raises FileExistsError where others lie in the way."""
    names = [*FILES, *PACKAGES, "Dockerfile"]
    for name in names:
        if (target / name).exists():
            raise FileExistsError(f"{target / name} is there; begin with a new Space")
    readme, attributes = _readme(target / "README.md"), _attributes(target / ".gitattributes")
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(ROOT / name, target / name)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns(*IGNORED))
    texts = {
        "Dockerfile": (ROOT / "Containerfile").read_text("utf-8") + COMMAND,
        "README.md": readme,
        ".gitattributes": attributes,
    }
    for name, text in texts.items():
        (target / name).write_text(text, encoding="utf-8")
    return [*names, "README.md", ".gitattributes"]


def _readme(there: Path) -> str:
    """The README.md, with what was chosen in the site's own. Raises FileExistsError for somebody's."""
    ours = (HERE / "README.md").read_text("utf-8")
    if not there.exists():
        return ours
    found = SITE_README.fullmatch(there.read_text("utf-8"))
    if found is None:
        raise FileExistsError(
            f"{there} is not the one of a new Docker Space; begin with a new Space, or move it away"
        )
    chosen = {line[1]: line[0] for line in KEPT.finditer(found["head"])}
    head, rest = ours.removeprefix("---\n").split("---\n", 1)
    return f"---\n{KEPT.sub(lambda line: chosen.get(line[1], line[0]), head)}---\n{rest}"


def _attributes(there: Path) -> str:
    """The .gitattributes with lines for binary files."""
    text = there.read_text("utf-8") if there.exists() else ""
    known = {line.split()[0] for line in text.splitlines() if "filter=lfs" in line.split()}
    missing = [f"{name} filter=lfs diff=lfs merge=lfs -text\n" for name in LARGE if name not in known]
    if missing and text and not text.endswith("\n"):
        text += "\n"
    return text + "".join(missing)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make_space.py FOLDER")
    try:
        print("\n".join(make(Path(sys.argv[1]))))
    except OSError as problem:
        sys.exit(f"error: {problem}")
