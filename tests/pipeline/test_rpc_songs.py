"""Songs with layers on an RPC server: killed and resumed, the server lost, takes, batches, memory."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import TEXT, Capture, Result, cli, ended, refused, song_bytes
from rpc_servers import NEEDS_RPC, free_endpoint, rpc_server
from zygote import Moment, Zygote, zygote

from yuegguf.pipeline.engines import find_devices
from yuegguf.planning.compute_options import ComputeOptions

pytestmark = [NEEDS_RPC, pytest.mark.engine]
SONG = (*TEXT, "--segment-seconds", 1, "--threads", 1, "--seed", 5, "--model", "nano", "--snapshot-every", 40)
DRAW, PICK = "yuegguf.song.token_log:TokenLog.append", "yuegguf.stages.stage2:best_codes"
PARTLY, WHOLLY = ("--gpu-layers", 2), ()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    endpoint = free_endpoint()
    with rpc_server(endpoint):
        yield endpoint


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Commands with llama.cpp in processes that it may end."""
    with zygote(tmp_path_factory.mktemp("program"), cheap=False) as found:
        yield found


def run(program: Zygote, server: str, parent: Path, *options: object, **way: Any) -> Result:
    return program.run("run", *SONG, "--device", f"rpc:{server}", *options, "-o", parent, "--json", **way)


def folder_in(parent: Path) -> Path:
    return next(parent.glob("*/song.json")).parent


def plan_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "song.json").read_text("utf-8"))["plan"])


@pytest.mark.parametrize(("options", "layers"), [(PARTLY, 2), (WHOLLY, -1)])
def test_killed_in_every_phase_the_song_is_the_same_to_the_byte(
    program: Zygote, server: str, tmp_path: Path, options: tuple[object, ...], layers: int
) -> None:
    whole = ended(run(program, server, tmp_path / "whole", *options)).folder
    plan = plan_of(whole)
    assert (plan["rpc_server"], plan["stage1_gpu_layers"]) == (server, layers)
    killed = run(program, server, tmp_path / "killed", *options, moment=Moment(130, DRAW))
    folder = folder_in(tmp_path / "killed")
    there = ("resume", folder, "--device", f"rpc:{server}")
    for at, count in ((DRAW, 30), (DRAW, 1), (PICK, 200)):
        assert killed.code == -signal.SIGKILL, killed.err
        killed = program.run(*there, moment=Moment(count, at))
    assert killed.code == -signal.SIGKILL, killed.err
    ended(program.run(*there))
    assert song_bytes(folder) == song_bytes(whole)
    assert plan_of(folder) == plan


def test_a_lost_server_ends_with_a_line_and_the_song_goes_on_at_the_next_one(
    program: Zygote, tmp_path: Path
) -> None:
    endpoint = free_endpoint()
    with rpc_server(endpoint) as lost:
        whole = ended(run(program, endpoint, tmp_path / "whole")).folder
        stop = Moment(90, DRAW, signal.SIGSTOP)
        found = run(program, endpoint, tmp_path / "lost", moment=stop, stopped=lost.kill)
    assert found.code == 1
    assert found.error.startswith(
        "error: the RPC server is gone, or is none of this llama.cpp (ggml-rpc.cpp:"
    )
    assert "yuegguf rpc-server; then resume the song" in found.error
    assert json.loads(found.out)["error"]["code"] == 1
    folder = folder_in(tmp_path / "lost")
    gone = program.run("resume", folder, "--device", f"rpc:{endpoint}")
    assert (gone.code, "no RPC server can be reached" in gone.error) == (1, True)
    with rpc_server(endpoint):
        ended(program.run("resume", folder, "--device", f"rpc:{endpoint}"))
    assert song_bytes(folder) == song_bytes(whole)


def test_takes_and_batches_have_their_layers_there(capsys: Capture, server: str, tmp_path: Path) -> None:
    there = ("--device", f"rpc:{server}")
    takes = ended(cli(capsys, "run", *SONG, *there, "-n", 2, "-o", tmp_path / "takes", "--json")).json
    drafts = Path(takes["takes"][0]["folder"]).parent
    ended(cli(capsys, "takes", "keep", drafts, 2, *there))
    kept = Path(takes["takes"][1]["folder"])
    assert plan_of(kept)["stage2_gpu_layers"] == -1
    assert (kept / "mix.wav").is_file()
    defaults = {"model": "nano", "segment-seconds": 1, "threads": 1, "device": f"rpc:{server}"}
    songs = [{"genre": "pop", "lyrics": "[verse]\nla la", "seed": seed} for seed in (1, 2)]
    queue = {"defaults": {**defaults, "output-dir": str(tmp_path / "songs")}, "songs": songs}
    (tmp_path / "queue.yaml").write_text(json.dumps(queue))
    ended(cli(capsys, "run", "--queue", tmp_path / "queue.yaml", "--parallel", 2))
    plans = [plan_of(path.parent) for path in (tmp_path / "songs").glob("*/song.json")]
    assert [plan["rpc_server"] for plan in plans] == [server, server]


def test_its_memory_is_planned_and_refused_as_a_gpus(capsys: Capture, server: str, tmp_path: Path) -> None:
    found = find_devices(ComputeOptions(rpc_server=server))
    assert (found.gpu, found.shared_memory) == (True, True)  # a server on loopback takes this machine's
    assert found.gpu_memory is not None
    plan = ("run", *SONG, "--device", f"rpc:{server}", "-o", tmp_path / "songs")
    shown = ended(cli(capsys, *plan, "--plan")).out
    assert "GPU layers   all of stage 1 and all of stage 2: as many as its memory holds" in shown
    said = refused(capsys, 4, *plan, "--max-memory", "160M", "--gpu-layers", -1, "--stage2-batch", 1)
    assert said.startswith("stage 2 needs about 0.2 GiB and --max-memory allows 0.2 GiB")
    assert not (tmp_path / "songs").exists()


def test_a_song_never_goes_to_a_server_that_only_its_folder_names(
    capsys: Capture, program: Zygote, server: str, tmp_path: Path
) -> None:
    run(program, server, tmp_path, moment=Moment(20, DRAW))
    folder = folder_in(tmp_path)
    said = refused(capsys, 5, "resume", folder)
    assert (
        f"was begun with layers on the RPC server at {server}; go on there with --device rpc:{server}" in said
    )
    ended(cli(capsys, "resume", folder, "--device", "cpu"))
    assert plan_of(folder)["rpc_server"] is None
