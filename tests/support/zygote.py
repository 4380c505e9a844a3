"""Commands in processes of their own that start in no time and are stopped at an exact moment.

A zygote is a process that has imported everything and forks for each command. A moment is the n-th call of a
function of the program, counted inside the command, so that no test depends on how fast a machine is.
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import IO, Any

from helpers import PROGRAMS, ROOT, Result

STOPPED = "stopped"
"""Answer of a zygote instead of an exit code."""
ANY = ""
"""Stands for every function of ours."""
OURS = tuple(f"{ROOT / name}{os.sep}" for name in ("yuegguf", "convert", "onnx_codec"))


@dataclass(frozen=True)
class Moment:
    """The `count`-th call of a function, before which a process gets a signal; 0 only counts."""

    count: int
    at: str = ANY
    """`module:name` or `module:Class.name`."""
    signal: int = signal.SIGKILL


@dataclass(frozen=True)
class Job:
    """Request to a zygote."""

    args: list[str]
    out: str
    """Files that stdout, stderr and the count of the calls go to."""
    err: str
    calls: str
    moment: Moment | None = None
    before: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Modules of the tests whose `install` is called with these arguments before the command; what that
    returns is called after it."""


class Zygote:
    """Runs commands one after the other."""

    def __init__(self, folder: Path, cheap: bool, hub: str = "") -> None:
        """Start it; FOLDER holds what commands write. `hub` is the address that it takes for the hub's."""
        command = [sys.executable, "-m", "zygote", json.dumps({"cheap": cheap, "hub": hub})]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join((*PROGRAMS, os.environ.get("PYTHONPATH", "")))}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def _ways(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    def run(
        self,
        *args: object,
        moment: Moment | None = None,
        begun: Callable[[int], None] = lambda pid: None,
        before: Sequence[tuple[str, dict[str, Any]]] = (),
        stopped: Callable[[], None] = lambda: None,
    ) -> Result:
        """One command; its code is negative when a signal killed it. `begun` is called with its process.

        One that stops itself goes on once `stopped` was called.
        """
        files = [str(self._folder / name) for name in ("out", "err", "calls")]
        asked, answers = self._ways
        job = Job([str(arg) for arg in args], *files, moment, [*before])
        asked.write(json.dumps(asdict(job)) + "\n")
        asked.flush()
        pid = int(answers.readline())
        begun(pid)
        while (answer := answers.readline().strip()) == STOPPED:
            try:
                stopped()
            finally:
                os.kill(pid, signal.SIGCONT)
        return Result(int(answer), *(Path(file).read_text("utf-8") for file in files[:2]))

    def calls(self, at: str, *args: object) -> int:
        """Number of times that a successful command calls a function."""
        assert self.run(*args, moment=Moment(0, at)).code in (0, 6)
        return int((self._folder / "calls").read_text())

    def close(self) -> None:
        """End it, and wait for that."""
        for way in self._ways:
            way.close()
        self._process.wait(60)


@contextmanager
def zygote(folder: Path, cheap: bool, hub: str = "") -> Iterator[Zygote]:
    """A zygote for as long as it is needed."""
    found = Zygote(folder, cheap, hub)
    try:
        yield found
    finally:
        found.close()


READ_LATE = ("encodings.cp437", "encodings.utf_8_sig", "yuegguf.exchange.tempo_map")
"""Modules of `bundle` that are imported when they are needed, which another user may not read."""


def serve(cheap: bool, hub: str) -> None:
    """Be one: fork for each line of stdin; say the process, then its exit code."""
    ours = ("yuegguf.pipeline.preflight", "yuegguf.cli", "yuegguf_convert.lm")
    for name in ("llama_cpp", "onnxruntime", *ours, *READ_LATE):
        importlib.import_module(name)
    importlib.import_module("yuegguf.cli").cli.all_commands()
    snapshots = importlib.import_module("yuegguf.song.cache_snapshots")
    snapshots.time = SimpleNamespace(monotonic=itertools.count().__next__)  # a second a look
    if cheap:
        importlib.import_module("cheap").install(setattr)
    if hub:
        for name in ("huggingface_hub.file_download", "httpx2", "yuegguf_onnx_codec.export"):
            importlib.import_module(name)
        importlib.import_module("family").use(hub, setattr)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for line in sys.stdin:
        facts = json.loads(line)
        job = Job(**{**facts, "moment": Moment(**facts["moment"]) if facts["moment"] else None})
        if not (pid := os.fork()):
            try:
                _answer(job)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(70)  # never the end of an interpreter whose threads the parent has
        print(pid, flush=True)
        while os.WIFSTOPPED(status := os.waitpid(pid, os.WUNTRACED)[1]):
            print(STOPPED, flush=True)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _answer(job: Job) -> None:
    """Run a command in this process, and end it."""
    for number, path in ((1, job.out), (2, job.err)):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(handle, number)
        os.close(handle)
    from yuegguf.cli import _progress, run_in_process

    _progress.FIRST_LINE_SECONDS = math.inf  # lines of progress would depend on the machine's speed
    modules = [importlib.import_module(name) for name, _ in job.before]
    after = [module.install(**given) for module, (_, given) in zip(modules, job.before, strict=True)]
    counter = _counter(job.moment) if job.moment else None
    code = run_in_process(job.args)
    sys.setprofile(None)
    for end in after:  # limits are lifted first
        end()
    if counter is not None:
        Path(job.calls).write_text(str(next(counter) - 1))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _counter(moment: Moment) -> Iterator[int]:
    """Count calls from now on, and give the signal when it is time."""
    counter = itertools.count(1)

    def step() -> None:
        if next(counter) == moment.count:
            os.kill(os.getpid(), moment.signal)

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            step()

    if moment.at == ANY:
        sys.setprofile(profile)
        return counter
    module, _, names = moment.at.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, last = names.split(".")
    for name in outer:
        owner = getattr(owner, name)
    real = getattr(owner, last)

    def counted(*args: Any, **more: Any) -> Any:
        step()
        return real(*args, **more)

    setattr(owner, last, counted)
    return counter


if __name__ == "__main__":
    serve(**json.loads(sys.argv[1]))
