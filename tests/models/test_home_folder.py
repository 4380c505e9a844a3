"""Users without a home folder: what needs one says which variable to set, and songs need none."""

from __future__ import annotations

import re
from pathlib import Path

import platformdirs
import pytest
from helpers import FAST, TEXT, Capture, cli, refused

VARIABLES = ("YUEGGUF_MODELS_DIR", "YUEGGUF_VOICES_DIR", "YUEGGUF_CACHE_DIR")


NOBODY = "~nobody-of-this-name/x"


def without_home(monkeypatch: pytest.MonkeyPatch, named: str | None) -> None:
    """Take the user's folders away, and let the variables name another one."""

    def lost(*_words: object, **_more: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    for name in ("user_data_path", "user_cache_path"):
        monkeypatch.setattr(platformdirs, name, lost)
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
        if named is not None:
            monkeypatch.setenv(variable, named)


@pytest.mark.parametrize("named", [None, "", NOBODY])
@pytest.mark.parametrize("line", ["models list", "voice list", "doctor"])
def test_without_a_home_folder_the_error_names_what_to_set(
    line: str, named: str | None, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_home(monkeypatch, named)
    said = refused(capsys, 5, *line.split())
    assert re.fullmatch(r"there is no such home folder for yuegguf's files; set YUEGGUF_[A-Z]+_DIR\n?", said)


@pytest.mark.parametrize("named", [None, "", NOBODY])
def test_songs_need_no_home_folder_but_a_cache_that_is_named_must_be_there(
    named: str | None, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_home(monkeypatch, named)
    monkeypatch.setenv("YUEGGUF_MODELS_DIR", str(tmp_path / "models"))
    made = cli(capsys, "run", *TEXT, *FAST, "-o", tmp_path)
    assert made.code == (5 if named == NOBODY else 0), made.err
