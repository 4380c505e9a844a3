"""Where the golden data lie, the seeded checkpoints that belong to them, and songs for the command line."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import cheap
import numpy as np
import pytest
import soundfile
from helpers import FAST, Capture, Result, Run, cli, ended
from hypothesis import settings
from shared_data import shared_path

from yuegguf.cli import _progress, run_in_process
from yuegguf.lm import build

settings.register_profile("same", derandomize=True, max_examples=60, deadline=None, database=None)
settings.load_profile("same")

"""The folder of golden data beside the checkout; tests that need it skip where it is not."""


OPENS_MODELS = {"LlamaEngine", "OrtCodec"}
"""Names that a test file imports to open real models."""
MAKES_MODELS = {"reference_checkpoint", "reference_gguf"}
"""Fixtures that need PyTorch."""
SLOW = {
    *(
        "bad_disks",
        "bad_models",
        "cli_family",
        "cli_numbers",
        "cli_output",
        "cli_request",
        "convert",
        "convert_trim",
    ),
    *(
        "crashes",
        "downloads",
        "offline_kit",
        "lyrics_end_to_end",
        "models_folder",
        "nano_corpus",
        "nano_measure",
    ),
    *("nano_text", "packaging", "plot", "pull", "pull_killed", "queue", "resume", "scarcity", "stopping"),
    *("queue_faults", "scheduler_faults"),
    *("moves", "scheduler", "takes", "stems", "extend", "lora_songs", "exchanged_folders", "voices"),
    *("api", "batching", "broken_sections", "check_first", "checkpoint_folders", "containers", "docs"),
    *("docs_facts", "draft", "faults_real_songs", "hand_off", "hostile_songs", "import_export"),
    *("loudness", "mastering", "preview", "sound_files", "tags"),
    *("leases", "single_phases", "driver", "units_of_songs", "work", "spreading", "served"),
    *("cluster_status", "ray_cluster"),
    *("songs_over_http", "queue_over_http", "serve_command", "access", "predictions", "readiness"),
    *("render_over_http", "import_over_http", "codec_over_http", "stems_over_http", "voices_over_http"),
    *("models_over_http", "song_options", "killed_tasks", "listing"),
    *("browser_edits", "browser_key", "browser_song", "browser_losses", "browser_access"),
    *("browser_playing", "browser_queue", "browser_writing", "kept_sections"),
    *("idle_server", "lost_queue", "serving_drills"),
    *("comfyui_nodes", "comfyui_over_http", "comfyui_work"),
    *("attacks", "openapi", "server_docs", "rpc", "rpc_songs"),
}
"""Test files that make many songs, convert checkpoints, build packages or start many processes."""
WRITES_CHECKPOINTS = "family"
"""The fixture that takes three seconds."""
NEEDS_TORCH = re.compile(
    r"^(?:import|from) (?:torch|transformers|peft|loras|nano\.train|nano\.evaluate)\b", re.MULTILINE
)


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C interrupt, also where a script runs the tests in its background, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cache = tempfile.TemporaryDirectory(prefix="yuegguf-tests-")
    config.add_cleanup(cache.cleanup)
    os.environ["YUEGGUF_CACHE_DIR"] = cache.name  # nothing that is measured here is for the user's songs
    _progress.FIRST_LINE_SECONDS = math.inf  # lines of progress would depend on the machine's speed


def pytest_report_header() -> str:
    """How llama.cpp was built: its sums end in other bits on another processor."""
    return f"llama.cpp: {build.build_info()['system']}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Spare `make quick` the seconds that importing PyTorch takes."""
    quick = config.option.markexpr.startswith("not engine") and collection_path.suffix == ".py"
    return True if quick and NEEDS_TORCH.search(collection_path.read_text("utf-8")) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make quick` leaves out."""
    needs_torch: dict[Path, bool] = {}
    for item in items:
        assert isinstance(item, pytest.Function)
        if item.path not in needs_torch:
            needs_torch[item.path] = bool(NEEDS_TORCH.search(item.path.read_text("utf-8")))
        opens = OPENS_MODELS & vars(item.module).keys() or MAKES_MODELS & {*item.fixturenames}
        if needs_torch[item.path] or opens:
            item.add_marker("engine")
        if item.path.stem.removeprefix("test_") in SLOW or WRITES_CHECKPOINTS in item.fixturenames:
            item.add_marker("slow")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Give the whole program cheap engines in every test that is not marked `engine`."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("engine") is None:
            cheap.install(patch.setattr)
        return (yield)


@pytest.fixture(autouse=True)
def gave_way(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a command would have made this process give way to others; it stays as it is."""
    asked: list[int] = []
    monkeypatch.setattr("yuegguf.planning.hardware.give_way", lambda: asked.append(1))
    return asked


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Path]:
    """`golden("stage2.npz")` → that file of shared/reference/golden."""
    return lambda name: shared_path(f"reference/golden/{name}")


@pytest.fixture(scope="session")
def reference_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`reference_checkpoint("stage1")` → the folder of seeded weights in the published layout.

    Each set of make_ckpt.py is generated once a session. YUEGGUF_REFERENCE_CKPT names a folder
    that already holds them all (they are bit-exact on any machine).
    """
    ready = os.environ.get("YUEGGUF_REFERENCE_CKPT")
    root = Path(ready) if ready else tmp_path_factory.mktemp("reference")
    sets = {"stage1_sharded": "stage1", "xcodec_micro": "micro", "vocos_micro": "micro"}
    made: set[str] = set()

    def folder(name: str) -> Path:
        script = shared_path("reference/make_ckpt.py")
        only = sets.get(name, name)
        if not ready and only not in made:
            command = [sys.executable, str(script), "--out", str(root), "--only", only]
            subprocess.run(command, check=True, capture_output=True)
            made.add(only)
        return root / name

    return folder


@pytest.fixture(scope="session")
def reference_gguf(
    reference_checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """`reference_gguf("stage1", "F32", trim=False)` → that checkpoint converted, once a session."""
    from yuegguf_convert.lm import convert_lm

    root, made = tmp_path_factory.mktemp("gguf"), {}

    def convert(name: str, out_type: str = "F32", trim: bool = True) -> Path:
        key = f"{name}-{out_type}-{'trimmed' if trim else 'full'}.gguf"
        if key not in made:
            made[key] = convert_lm(reference_checkpoint(name), root / key, out_type=out_type, trim=trim)
        return made[key]

    return convert


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the machine's owner has installed must not change a test."""
    monkeypatch.setenv("YUEGGUF_MODELS_DIR", str(tmp_path / "no models"))


@pytest.fixture
def run(capsys: Capture, tmp_path: Path) -> Run:
    """Make a song with the given arguments; returns its folder."""

    def make(*args: object) -> Path:
        return ended(cli(capsys, "run", *args, *FAST, "-o", tmp_path / "songs", "--json")).folder

    return make


@pytest.fixture(scope="session")
def sung(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`sung("-g", "pop", …)` → the folder of that finished song, made once a session with cheap engines."""
    found: dict[tuple[object, ...], Path] = {}

    def make(*args: object) -> Path:
        if args not in found:
            line = ["run", *map(str, args), "-o", str(tmp_path_factory.mktemp("song")), "--json"]
            with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out:
                cheap.install(patch.setattr)
                patch.setattr("yuegguf.planning.hardware.give_way", lambda: None)
                found[args] = ended(Result(run_in_process(line), out.getvalue(), "")).folder
        return found[args]

    return make


@pytest.fixture(scope="module")
def song(request: pytest.FixtureRequest, sung: Run) -> Path:
    """The finished song of the arguments that the test's module names in SONG; no test changes it."""
    return sung(*request.module.SONG)


@pytest.fixture(scope="session")
def driver() -> Iterator[object]:
    """A driver that ends commands, or the disk under them, at their n-th step."""
    from crashing import driving

    with tempfile.TemporaryDirectory(prefix="yuegguf-driver-") as name:
        Path(name).chmod(0o755)  # also for the user who may only read; pytest closes folders of its own again
        with driving(Path(name).resolve()) as found:
            yield found


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.wav: 2 s mono at 16 kHz; b.flac: 1.5 s stereo at 44.1 kHz; long.wav: 4 s at 22.05 kHz."""
    folder, chance = tmp_path_factory.mktemp("audio"), np.random.default_rng(0)
    for name, rate, shape in (
        ("a.wav", 16000, 32000),
        ("b.flac", 44100, (66150, 2)),
        ("long.wav", 22050, 88200),
    ):
        soundfile.write(folder / name, 0.3 * np.sin(np.cumsum(chance.normal(0, 0.2, shape), axis=0)), rate)
    return folder


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny checkpoints in the published layout: stage1/ in two shards, stage2/, codec/."""
    from family import write_family

    return write_family(tmp_path_factory.mktemp("family"))


@pytest.fixture
def hub(family: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A hub on loopback that offers them, where this process looks for one."""
    import family as offers
    from hub import Hub, serving

    with serving(Hub()) as server:
        offers.publish(server, family, "en-cot", "zh-cot", "s2-general", "xcodec", "s1-0.5b")
        offers.use(server.url, monkeypatch.setattr)
        yield server
