"""Fill a folder with what a Hugging Face Space of yuegguf needs: `python make_space.py FOLDER`.

A Space is a git repository with a Dockerfile and a README.md at its top; clone an empty one, fill it, commit
and push.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FILES = ("pyproject.toml", "setup.py", "models.toml", "LICENSE", ".dockerignore")
PACKAGES = ("cmake", "yuegguf", "convert", "onnx_codec")
COMMAND = """
# a Space is addressed by its own name; the platform sets SPACE_HOST
ENTRYPOINT []
ENV SPACE_SONGS=/songs
CMD ["sh", "-c", "exec yuegguf serve --host 0.0.0.0 --songs $SPACE_SONGS --allow-host $SPACE_HOST"]
"""


def make(target: Path) -> list[str]:
    """Write the files of a Space; returns their names. Raises FileExistsError where others lie in the way."""
    names = [*FILES, *PACKAGES, "Dockerfile", "README.md"]
    for name in names:
        if (target / name).exists():
            raise FileExistsError(f"{target / name} is there; begin with an empty Space")
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(ROOT / name, target / name)
    for name in PACKAGES:
        shutil.copytree(
            ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    shutil.copyfile(HERE / "README.md", target / "README.md")
    (target / "Dockerfile").write_text(
        (ROOT / "Containerfile").read_text("utf-8") + COMMAND, encoding="utf-8"
    )
    return names


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make_space.py FOLDER")
    try:
        print("\n".join(make(Path(sys.argv[1]))))
    except OSError as problem:
        sys.exit(f"error: {problem}")
