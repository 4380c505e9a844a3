"""What `--json` makes of version, help and wrong options."""

from __future__ import annotations

import pytest
from helpers import Capture, cli


@pytest.mark.parametrize("line", [("--version",), ("--help",), ("run", "-h"), ("takes", "keep", "--help")])
def test_with_json_version_and_help_are_objects(capsys: Capture, line: tuple[str, ...]) -> None:
    plain = cli(capsys, *line)
    name = "version" if line == ("--version",) else "help"
    for given in ((*line, "--json"), (line[0], "--json", *line[1:]), ("--json", *line)):
        found = cli(capsys, *given)
        assert (found.code, list(found.json)) == (0, [name])
        assert plain.out.endswith(f"{found.json[name]}\n")


def test_with_json_the_advice_about_an_option_is_the_hint(capsys: Capture) -> None:
    def error(*line: str) -> tuple[str, str]:
        found = cli(capsys, "run", "--json", *line)
        facts = found.json["error"]
        assert found.code == facts["code"] == 2
        assert "(see: yuegguf run --help)" in found.err  # the line of text is as it was
        return facts["message"], facts["hint"]

    assert error("--xyzzyq") == ("No such option '--xyzzyq'", "see: yuegguf run --help")
    message, hint = error("--temperatur", "1")
    assert message == "No such option '--temperatur'"
    assert hint == "Did you mean '--temperature'?; see: yuegguf run --help"
    assert error("--example", "--ref-start", "3") == (
        "--ref-start and --ref-end need a recording",
        "pass --ref too; see: yuegguf run --help",
    )
