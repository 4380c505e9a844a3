"""Plans of songs with layers on an RPC server: which one a song goes on at, and where none is named."""

from __future__ import annotations

import pytest
from plans import GIB, LAYERED1, LAYERED2, plan_of, revised

from yuegguf.errors import RequestError
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.request.song_request import SongRequest


def request() -> SongRequest:
    return SongRequest("pop", "[verse]\nla la")


def test_a_song_goes_on_at_its_rpc_server_only_where_the_user_names_it() -> None:
    there = ComputeOptions(rpc_server="box:5")
    made = plan_of(request(), LAYERED1, LAYERED2, there, 4, None, gpu=True, gpu_memory=4 * GIB)
    assert (made.rpc_server, made.device) == ("box:5", "box:5")
    assert (made.stage1_gpu_layers, made.stage2_gpu_layers) == (14, -1)  # the 4 GiB hold no more
    assert revised(made, request(), LAYERED1, LAYERED2, there, None, "draft") == made
    moved = revised(
        made, request(), LAYERED1, LAYERED2, ComputeOptions(rpc_server="b:6", gpu_layers=1), None, "draft"
    )
    assert (moved.rpc_server, moved.stage1_gpu_layers, moved.stage2_gpu_layers) == ("b:6", 1, 1)
    assert (
        revised(made, request(), LAYERED1, LAYERED2, ComputeOptions(gpu=False), None, "draft").rpc_server
        is None
    )
    for phase in ("draft", "refine"):
        with pytest.raises(
            RequestError, match="on the RPC server at box:5; go on there with --device rpc:box:5"
        ):
            revised(made, request(), LAYERED1, LAYERED2, ComputeOptions(), None, phase)
    assert revised(made, request(), LAYERED1, LAYERED2, ComputeOptions(), None, "master") == made


def test_a_plan_without_layers_there_names_no_server() -> None:
    none = ComputeOptions(rpc_server="box:5", gpu_layers=0)
    assert plan_of(request(), LAYERED1, LAYERED2, none, 4, None).rpc_server is None
    full = plan_of(
        request(), LAYERED1, LAYERED2, ComputeOptions(rpc_server="box:5"), 4, None, gpu=True, gpu_memory=1
    )
    assert (full.rpc_server, full.stage1_gpu_layers, full.flash_attention) == (None, 0, False)
