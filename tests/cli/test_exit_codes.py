"""Exit codes: one for each kind of error, and the same for one cause in every command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers import Capture, cli

from yuegguf import errors
from yuegguf.cli import cli as program
from yuegguf.models.resolve import nano_models

CODES = {
    "YueError": 1,
    "ModelNotFound": 3,
    "NotInstalled": 3,
    "NotEnoughMemory": 4,
    "RequestError": 5,
    "DamagedFile": 7,
    "EngineError": 1,
    "CodecError": 1,
    "StorageError": 1,
    "FolderBusy": 1,
    "DownloadError": 75,
    "Interrupted": 75,
}
BY_COMMAND_LINE = {0, 2, 6, 130}
"""Codes that no error has."""


def tree(kind: type[errors.YueError]) -> list[type[errors.YueError]]:
    """A class of errors and all below it that the package defines."""
    return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]


def test_every_error_has_its_code_and_the_table_says_it() -> None:
    own = {
        kind.__name__: kind.exit_code for kind in tree(errors.YueError) if kind.__module__ == errors.__name__
    }
    assert own == CODES
    table = dict(re.findall(r"^[│├└─ ]*(\w+) +(\d+)  ", errors.__doc__ or "", re.MULTILINE))
    assert {name: int(code) for name, code in table.items()} == CODES
    assert not BY_COMMAND_LINE & set(CODES.values())


NO_SONG = (
    *("resume", "refine", "extend", "render", "bundle", "plot", "export", "songs status", "songs rm"),
    *("takes list", "takes keep FOLDER 1", "decode", "import"),
)
"""Commands that take a song; FOLDER is at the end unless it is named."""
NO_FILE = (
    *(
        "run --example -m FILE",
        "models info",
        "models verify",
        "models check",
        "models path",
        "bench -m FILE",
    ),
    *("quantize FILE Q8_0 -o OUT", "trim FILE -o OUT", "merge-lora FILE FILE -o OUT"),
)
NO_MODEL = (
    *("models info", "models verify", "models check", "models path", "models rm", "pull"),
    *("run --example -m FILE", "bench -m FILE"),
)
NO_AUDIO = (
    *("run --example --ref FILE", "voice save x --ref FILE", "encode", "stems --inst FILE -g pop -l WORDS"),
    *("import --vocal FILE --inst FILE -g pop -l WORDS", "lyrics check", "run -g pop -l FILE"),
)
CAUSES = {
    "no song": (5, "FOLDER", NO_SONG),
    "no model file": (3, "FILE.gguf", NO_FILE),
    "a model file that is none": (7, "JUNK.gguf", tuple(line for line in NO_FILE if line != "models path")),
    "an unknown model": (5, "no-such-model", NO_MODEL),
    "a model that is not installed": (3, "zh-cot", tuple(line for line in NO_MODEL if line != "pull")),
    "no recording or text": (5, "FILE.wav", NO_AUDIO[:5]),
    "a recording that is none": (5, "JUNK.wav", NO_AUDIO[:5]),
    "no lyrics": (5, "FILE.txt", NO_AUDIO[5:]),
    "an option that is none": (2, "--no-such-option", tuple(sorted(program.all_commands()))),
}


@pytest.mark.parametrize(
    ("cause", "line"), [(cause, line) for cause, (_, _, lines) in CAUSES.items() for line in lines]
)
def test_one_cause_has_one_code_in_every_command(
    cause: str, line: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nano = nano_models()
    root = tmp_path / "models"
    (root / "xcodec").mkdir(parents=True)
    for name, file in (("en-cot", nano.stage1), ("en-icl", nano.stage1), ("s2-general", nano.stage2)):
        (root / f"{name}-Q8_0.gguf").symlink_to(file)
    for file in nano.codec.glob("*.onnx"):
        (root / "xcodec" / file.name).symlink_to(file)
    (tmp_path / "JUNK.gguf").write_text("junk\n" * 9)
    (tmp_path / "JUNK.wav").write_text("junk\n" * 9)
    (tmp_path / "words.txt").write_text("[verse]\nla\n")
    code, thing, _ = CAUSES[cause]
    words = [*line.split()]
    if not {"FOLDER", "FILE"} & set(words):
        words.append("FILE")
    known = {"FOLDER": thing, "FILE": thing, "OUT": "out.gguf", "WORDS": "words.txt"}
    result = cli(capsys, "--models-dir", root, *(known.get(word, word) for word in words))
    assert result.code == code, result
    assert "Traceback" not in result.err
