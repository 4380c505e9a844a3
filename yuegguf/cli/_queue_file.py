"""A queue's YAML file: the options of each song as texts, just as they are written there.

Numbers, dates and times are not made into anything else: `name: 007` is called 007, `seed: 1:30` is no
seed. `null` is an option that is not given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import yaml

from yuegguf.errors import RequestError
from yuegguf.files.kinds import HEAD_BYTES, check_text
from yuegguf.files.reading import open_plain_file
from yuegguf.request.valid_text import is_valid_text

MOST_BYTES, MOST_SONGS = 1 << 20, 1000
"""Size of a queue; texts may lie in files beside it."""
MOST_NODES, DEEPEST = 50_000, 8
"""Values of a queue in all, and one inside the other."""
OWN_OPTIONS = (
    "plan_only",
    "dry_run",
    "queue",
    "parallel",
    "part",
    "stop_at",
    "strict",
    "cluster",
    "spread",
    "kit",
    "gpu_memory",
    "pause_on_battery",
    "nice",
    "as_json",
    "quiet",
    "progress",
)
"""Options of `run` that a song of a queue has not."""
FILES = ("genre_txt", "lyrics_txt", "ref", "ref_vocal", "ref_inst")
"""Options whose files are looked for beside the queue's."""
LISTS = ("formats",)
"""Options whose value is a comma list, so that it may be a list in YAML too."""
PLAIN, NULL = "tag:yaml.org,2002:", "tag:yaml.org,2002:null"
SCALARS = {PLAIN + kind for kind in ("str", "int", "float", "timestamp", "bool", "null")}
TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

Value = str | list[str] | None


@dataclass(frozen=True)
class QueueOption:
    """An option of a song."""

    option: click.Option
    key: str
    """The option's name in the file."""
    value: Value

    def arguments(self, folder: Path) -> Iterator[str]:
        """The option as command-line arguments; files lie in `folder`. Raises UsageError."""
        if self.value is None:
            return
        if self.option.is_flag:
            yield from self._flag()
        elif isinstance(self.value, list) and self.option.name in LISTS:
            yield f"--{self.key}={','.join(self.value)}"
        elif isinstance(self.value, list) and not self.option.multiple:
            raise click.UsageError(f"{self.key} has one value, not a list")
        else:
            for text in self.value if isinstance(self.value, list) else [self.value]:
                beside = self.option.name in FILES and text != "-"
                yield f"--{self.key}={folder / text if beside else text}"

    def _flag(self) -> list[str]:
        truth = TRUTH.get(self.value.lower()) if isinstance(self.value, str) else None
        if truth is None:
            raise click.UsageError(f"{self.key} is true or false")
        is_on = truth == (f"--{self.key}" in self.option.opts)
        names = self.option.opts if is_on else self.option.secondary_opts
        return [name for name in names if name.startswith("--")][:1]


@dataclass(frozen=True)
class QueuedSong:
    """A song of a queue."""

    line: int
    options: Mapping[str, Value]
    """Values by the options' names in the file."""


def read(file: Path) -> tuple[Mapping[str, Value], list[QueuedSong]]:
    """The options of all songs, and those of each. Raises RequestError."""
    root = _compose(file)
    parts = dict(_pairs(file, root)) if isinstance(root, yaml.MappingNode) else {"songs": root}
    if unknown := parts.keys() - {"defaults", "songs"}:
        raise RequestError(f"{file}: there is no {min(unknown)!r} in a queue", "write defaults: and songs:")
    defaults, songs = parts.get("defaults"), parts.get("songs")
    if not isinstance(songs, yaml.SequenceNode) or not songs.value:
        raise RequestError(f"{file} holds no list of songs", "write: songs: [{genre: …, lyrics: …}, …]")
    if len(songs.value) > MOST_SONGS:
        raise RequestError(f"{file} holds {len(songs.value)} songs", f"use at most {MOST_SONGS} in a queue")
    common = {} if defaults is None or defaults.tag == NULL else _options(defaults, f"{file}, defaults")
    queued = [_queued_song(file, number, node) for number, node in enumerate(songs.value, 1)]
    return common, queued


def where(file: Path, number: int, line: int) -> str:
    """A song's place in the file, for messages."""
    return f"{file}, line {line}, song {number}"


def chosen(command: click.Command, *given: Mapping[str, Value]) -> dict[str, QueueOption]:
    """The options of a command by name, the later ones of `given` first. Raises UsageError."""
    known = {
        name.removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option) and option.name not in OWN_OPTIONS
        for name in (*option.opts, *option.secondary_opts)
    }
    found: dict[str, QueueOption] = {}
    for options in given:
        asked: dict[str, QueueOption] = {}
        for written, value in options.items():
            key = written.replace("_", "-")
            if key not in known:
                raise click.UsageError(f"there is no option {written!r}")
            name = str(known[key].name)
            if name in asked:
                raise click.UsageError(f"{asked[name].key} and {written} are one option")
            asked[name] = QueueOption(known[key], key, value)
        found |= asked
    return found


class _Loader(yaml.SafeLoader):
    """A reader of nodes that are as many as they are written, and not deep."""

    count = depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node. Raises YAMLError."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        self.count, self.depth = self.count + 1, self.depth + 1
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not read; use defaults", problem_mark=mark)
        if self.count > MOST_NODES or self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(problem="too many or too deep values", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _compose(file: Path) -> yaml.Node | None:
    try:
        with open_plain_file(file) as stream:
            data = stream.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise RequestError(
                f"the queue {file} is larger than {MOST_BYTES >> 20} MiB", "make several of it"
            )
        check_text(file, data[:HEAD_BYTES])
        loader = _Loader(data.decode("utf-8-sig"))
        loader.name = file.name
        return loader.get_single_node()
    except OSError as error:
        reason = error.strerror or error
        raise RequestError(f"the queue {file} cannot be read ({reason})", "check the name") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"the queue {file} is not UTF-8 text", "save it as UTF-8") from error
    except (yaml.YAMLError, ValueError) as error:
        said = " ".join(str(error).split()).replace("found unexpected", "found")
        raise RequestError(f"{file} is not YAML for a queue ({said})", "see docs/queue.md") from error


def _queued_song(file: Path, number: int, node: yaml.Node) -> QueuedSong:
    line = node.start_mark.line + 1
    return QueuedSong(line, _options(node, where(file, number, line)))


def _options(node: yaml.Node, place: str) -> dict[str, Value]:
    if not isinstance(node, yaml.MappingNode):
        raise RequestError(f"{place}: this is not a list of options", "write: genre: …")
    try:
        return {key: _value(key, value) for key, value in _pairs(place, node)}
    except click.UsageError as error:
        raise RequestError(f"{place}: {error.message}", "write it as on the command line") from error


def _pairs(place: Path | str, node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node]]:
    """Keys and values of a mapping. Raises RequestError for a key that is no text, or there twice."""
    seen: set[str] = set()
    for key, value in node.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else None
        if not isinstance(name, str) or key.tag == NULL or not is_valid_text(name):
            line = key.start_mark.line + 1
            raise RequestError(f"{place}: the key on line {line} is not a name", "write: genre: …")
        if name in seen:
            raise RequestError(f"{place}: {name!r} is there twice", "leave one out")
        seen.add(name)
        yield name, value


def _value(key: str, node: yaml.Node) -> Value:
    if isinstance(node, yaml.SequenceNode) and node.tag == PLAIN + "seq":
        parts = [_value(key, part) for part in node.value]
        if any(part is None or isinstance(part, list) for part in parts):
            raise click.UsageError(f"{key} is a list of something else than texts")
        return [str(part) for part in parts]
    if not isinstance(node, yaml.ScalarNode) or node.tag not in SCALARS:
        raise click.UsageError(f"{key} is neither a text nor a list of texts")
    if node.tag == NULL:
        return None
    if not is_valid_text(node.value):
        raise click.UsageError(f"{key} is not text")
    return str(node.value)
