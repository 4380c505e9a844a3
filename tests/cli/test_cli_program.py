"""The whole program: as a process, its help, resuming what it left, and the same from Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from helpers import (
    FAST,
    FRAMES,
    LYRICS,
    OURS,
    Capture,
    cli,
    edit_song,
    ended,
    finish,
    new_song,
    refused,
    song_bytes,
    start,
)

import yuegguf
from yuegguf.cli import COMMANDS, SECTIONS
from yuegguf.cli import cli as main_group
from yuegguf.cli._console import Console
from yuegguf.cli._options import pass_output
from yuegguf.errors import Interrupted
from yuegguf.models.resolve import ModelChoice, nano_models
from yuegguf.planning.compute_options import ComputeOptions

SONG = (*OURS, *FAST)
pytestmark = pytest.mark.usefixtures("no_models")


def commands() -> Iterator[str]:
    """Every command, and the parts of those that have some."""
    for name, command in main_group.all_commands().items():
        yield name
        yield from (f"{name} {part}" for part in getattr(command, "commands", {}))


@pytest.mark.slow
def test_python_dash_m_and_version(tmp_path: Path) -> None:
    assert finish(start("--version")).out == f"yuegguf, version {yuegguf.__version__}\n"
    result = finish(start("run", *OURS, *FAST, "-o", tmp_path, "--json"))
    ended(result)
    assert result.out.count("\n") == 1


def test_the_program_is_there_before_its_commands() -> None:
    heavy = ("numpy", "msgspec", "psutil", "filelock", "yuegguf.cli.run", "yuegguf.planning", "yuegguf.song")
    code = f"import sys, yuegguf.cli; print(*(name for name in {heavy} if name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "\n"


@pytest.mark.parametrize("command", list(commands()))
def test_every_command_explains_itself_with_an_example(command: str, capsys: Capture) -> None:
    result = cli(capsys, *command.split(), "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: yuegguf {command}")
    if command not in ("models", "lyrics"):  # their parts have examples
        assert f"  yuegguf {command}" in result.out.split("\n", 1)[1]


GROUPS = [name for name, part in main_group.all_commands().items() if isinstance(part, click.Group)]
NEED_NOTHING = {"doctor": 0, "models list": 0, "models licenses": 0, "models verify": 0, "voice list": 0}
NEED_NOTHING |= {"help": 0, "resume": 0, "songs list": 0, "pull": 5, "cluster status": 5}
"""Commands that need no argument → their exit code alone, where nothing is installed and no song begun."""


@pytest.mark.parametrize("group", ["", *(name for name in GROUPS if name != "bench")])
def test_a_group_alone_prints_its_help(group: str, capsys: Capture) -> None:
    alone, asked = cli(capsys, *group.split()), cli(capsys, *group.split(), "--help")
    assert (alone.code, alone.err) == (0, "")
    assert alone.out == asked.out
    assert alone.out.startswith(f"Usage: yuegguf {group}".strip())


SERVES = ("serve", "rpc-server")
"""Commands that do not end by themselves; their tests are in tests/server and tests/lm."""


@pytest.mark.parametrize("command", [name for name in commands() if name not in (*GROUPS, *SERVES)])
def test_every_command_alone_does_its_work_or_says_what_it_needs(
    command: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YUEGGUF_VOICES_DIR", str(tmp_path / "voices"))
    result = cli(capsys, *command.split())
    assert result.code == NEED_NOTHING.get(command, 2), result
    if result.code:
        assert (result.out, result.err.count("\n")) == ("", 1)
        assert result.error


def test_bench_alone_measures(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a command too: its help is asked for with --help."""
    asked: list[object] = []
    monkeypatch.setattr(
        main_group.all_commands()["bench"], "callback", lambda *_args, **named: asked.append(named)
    )
    assert cli(capsys, "bench").code == 0
    assert len(asked) == 1


def test_flags_of_the_program_stand_anywhere_and_take_no_options_value(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    def note(output: Console, /, **options: object) -> None:
        seen.append((output.as_json, output.quiet, options["name"]))

    monkeypatch.setattr(main_group.all_commands()["run"], "callback", pass_output(note))
    for args in (
        ("run", "--name", "-q"), ("--json", "run", "--name", "-q"), ("run", "--json", "--name", "-q", "-q"),
        ("run", "--name", "--json", "--quiet"), ("-q", "--json", "run"),
    ):  # fmt: skip
        assert cli(capsys, *args).code == 0
    assert seen == [
        (False, False, "-q"), (True, False, "-q"), (True, True, "-q"), (False, True, "--json"),
        (True, True, None),
    ]  # fmt: skip
    assert cli(capsys, "decode", "--", "--json").out == ""  # a file's name
    assert cli(capsys, "run", "--nonsense", "--json").json["error"]["code"] == 2


def test_resume_without_a_name_takes_the_newest_interrupted(
    capsys: Capture, song: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "songs" / "mine"
    shutil.copytree(song, folder)
    edit_song(folder, state="draft")
    for name in ("stage1.npz", "stage2.npz", "mix.wav"):
        (folder / name).unlink()
    result = cli(capsys, "resume", "-o", tmp_path / "songs", "--threads", 1, "--json")
    assert result.json["folder"] == str(folder)
    assert song_bytes(folder) == song_bytes(song)
    nothing = cli(capsys, "resume", "-o", tmp_path / "songs")
    assert (nothing.code, nothing.err) == (0, "")
    assert nothing.out.startswith(f"there is no interrupted song in {tmp_path / 'songs'}; see: yuegguf songs")


def test_a_song_of_other_models_is_resumed_with_them(
    capsys: Capture, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundled stage 1 with a stage 2 of one's own, which was named relative to another folder."""
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own.gguf"
    own.write_bytes(nano_models().stage2.read_bytes() + bytes(32))  # another file of the same weights
    folder = Path(cli(capsys, "run", *OURS, *FAST, "--stage2-model", "own.gguf", "--json").json["folder"])
    unrefine(folder.absolute())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder = tmp_path / folder
    ended(cli(capsys, "resume", folder, "--threads", 1))
    assert song_bytes(folder) == song_bytes(song)
    unrefine(folder)
    own.unlink()
    gone = cli(capsys, "resume", folder, "--threads", 1)
    assert gone.code == 7
    assert gone.error == (
        f"error: {nano_models().stage2} is not the stage2 model that this song was started with ({own}); put "
        f"that file back, or start a new song; then go on with: yuegguf resume {folder}"
    )


def unrefine(folder: Path) -> None:
    """Take a finished song back to the beginning of stage 2."""
    edit_song(folder, state="refine")
    (folder / "stage2.npz").unlink()


# From Python


def test_generate_reports_progress_and_stops_on_request(tmp_path: Path) -> None:
    request = yuegguf.SongRequest("pop", LYRICS, segment_seconds=1, seed=5)
    events: list[yuegguf.Event] = []
    options = {"compute": ComputeOptions(threads=1), "models": ModelChoice("nano")}
    song = yuegguf.generate(request, output_dir=tmp_path, name="whole", progress=events.append, **options)
    assert isinstance(song, yuegguf.Song)
    assert (song.seconds, song.seed, len(song.files)) == (3.0, 5, 3)
    phases = [event.phase for event in events]
    assert phases == sorted(phases, key=("draft", "refine", "master").index)
    assert [e.done for e in events if e.phase == "refine"][-1] == 2 * FRAMES
    drafted = [e.done for e in events if e.phase == "draft"]
    assert drafted == sorted(drafted)
    assert events[-1] == yuegguf.Event("master", FRAMES, FRAMES)

    stop = threading.Event()

    def stop_soon(event: yuegguf.Event) -> None:
        if event.done >= 60:
            stop.set()

    with pytest.raises(Interrupted) as caught:
        yuegguf.generate(request, output_dir=tmp_path, name="whole", progress=stop_soon, stop=stop, **options)
    folder = caught.value.folder
    assert folder is not None
    drawn = (folder / "tokens.log").read_bytes().count(b"\n") - 1 - 2
    assert drawn in (2 * 60, 2 * 60 + 1)  # a step may bring two draws
    assert not (folder / "mix.wav").exists()
    resumed = yuegguf.resume(folder, compute=ComputeOptions(threads=1))
    assert song_bytes(resumed.folder) == song_bytes(song.folder)


def test_the_bundled_models_are_found_where_the_package_is() -> None:
    assert nano_models().stage1.parent == Path(yuegguf.__file__).parent / "data" / "nano"
    assert sys.modules["yuegguf"].__file__


def test_help_is_that_of_the_command(capsys: Capture) -> None:
    assert cli(capsys, "help", "takes", "keep").out == cli(capsys, "takes", "keep", "--help").out
    assert cli(capsys, "help").out == cli(capsys, "--help").out
    assert "there is no command takes sell" in refused(capsys, 2, "help", "takes", "sell")


def test_the_help_lists_every_command_in_its_part(capsys: Capture) -> None:
    text = cli(capsys, "--help").out
    parts = [line.removesuffix(":") for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert parts == ["Options", *SECTIONS]
    assert sorted(COMMANDS) == main_group.list_commands(click.Context(main_group))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (
            ("--sections", "1", "--run_n_segments", "2"),
            "--run-n-segments",
        ),
        (("-g", "pop", "--genre", "rock"), "--genre"),
        (("--lora", "a", "--lora", "b", "--no-cfg", "--no-cfg", "--seed", "1"), ""),
    ],
)
def test_an_option_that_is_given_twice_is_noticed(
    arguments: tuple[str, ...], name: str, capsys: Capture
) -> None:
    notes = cli(capsys, "run", *arguments, "--stop-at", "never").err.splitlines()[:-1]
    assert notes == ([f"note: {name} is given twice; the last counts"] if name else [])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--stop-at", "07:30"), "--stop-at belongs to --queue"),
        (("--parallel", 2), "--parallel belongs to --queue"),
        (("--take", "2", "-n", "3"), "--take is one take and -n makes several; leave one of them out"),
    ],
)
def test_options_that_exclude_each_other_are_refused(
    arguments: tuple[str, ...], sentence: str, capsys: Capture
) -> None:
    assert sentence in refused(capsys, 2, "run", "--example", *arguments)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("re",), {"refine", "render", "resume"}),
        (("run", "--voi"), {"--voice"}),
        (("run", "-m", "na"), {"nano"}),
        (("models", "info", "en-"), {"en-cot", "en-icl"}),
        (("resume", ""), {"songs/mine"}),
        (("takes", "k"), {"keep"}),
    ],
)
def test_a_shell_completes_commands_options_models_and_songs(
    words: tuple[str, ...], found: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    new_song(tmp_path / "songs").path.rename(tmp_path / "songs" / "mine")
    completion = ShellComplete(main_group, {"obj": Console()}, "yuegguf", "_YUEGGUF_COMPLETE")
    items = completion.get_completions(list(words[:-1]), words[-1])
    assert {item.value for item in items if item.type == "plain"} == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_names_the_program(shell: str, capsys: Capture) -> None:
    result = cli(capsys, "completion", shell)
    assert result.code == 0
    assert f"_YUEGGUF_COMPLETE={shell}_complete" in result.out
