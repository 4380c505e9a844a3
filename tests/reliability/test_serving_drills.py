"""A few clients and kills of the drills `serving_load.py` and `serving_kills.py`, which run for minutes."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import Run, song_bytes
from promises import Broken
from serving_client import served
from serving_kills import Drill
from serving_load import Load, drill
from serving_program import CHEAP
from serving_songs import Wanted

CLIENTS, VISITS, SEED = 4, 2, 1
MOST_SECONDS = 60.0
"""Seconds after which a drill gives up."""


@pytest.fixture
def wanted(sung: Run) -> list[Wanted]:
    """Two songs of two seconds."""
    found = []
    for seed in (1, 2):
        lyrics = f"[verse]\n{'la ' * seed}\n[chorus]\nlo lo"
        line = ("-g", f"pop {seed}", "--lyrics", lyrics, "--segment-seconds", 1, "--seed", seed)
        alone = sung(*line, "--threads", 1, "--model", "nano")
        body = {"genre": f"pop {seed}", "lyrics": lyrics, "segment_seconds": 1, "seed": seed}
        found.append(Wanted(body, None, song_bytes(alone)))
    return found


def test_clients_at_once_get_their_own_songs(tmp_path: Path, wanted: list[Wanted]) -> None:
    with served(tmp_path / "songs", parallel=2, max_queue=3) as client:
        load = Load(client, wanted, MOST_SECONDS, VISITS)
        drill(load, CLIENTS, SEED, MOST_SECONDS)
    assert load.broken == []
    assert load.songs["created"] == CLIENTS * VISITS
    assert load.songs["deleted"] + len(load.kept) == CLIENTS * VISITS
    assert all(status < 500 for _, status in load.answers)


def test_the_load_notices_a_song_with_other_bytes(tmp_path: Path, wanted: list[Wanted]) -> None:
    other = replace(wanted[0], alone=wanted[1].alone)
    with served(tmp_path / "songs") as client:
        load = Load(client, [other], MOST_SECONDS, 1)
        drill(load, 1, SEED, MOST_SECONDS)
    assert load.broken


@pytest.fixture
def killing(tmp_path: Path, wanted: list[Wanted]) -> Drill:
    """A drill whose server is not started yet."""
    (tmp_path / "said").touch()
    return Drill(tmp_path / "songs", tmp_path / "said", wanted, CHEAP, (), random.Random(SEED), disk=False)


def test_killed_servers_workers_and_queues_lose_no_song(killing: Drill) -> None:
    for kill in (killing.kill_worker, killing.damage_queue):
        killing.request()
        kill()
    killing.finish(MOST_SECONDS)
    killing.end()
    assert killing.broken == []
    assert killing.happened["server killed"] == 1
    assert killing.happened["songs the same as alone"] == len(killing.accepted) >= 2


def test_the_kills_notice_a_song_that_is_there_twice(killing: Drill) -> None:
    with served(killing.songs) as client:
        killing.client = client
        killing.request(killing.wanted[0], "one")
        song = next(iter(killing.accepted))
        del killing.accepted[song]
        with pytest.raises(Broken, match="409"):  # the same key for another song
            killing.request(killing.wanted[1], "one")
        killing.finish(MOST_SECONDS)
    assert killing.broken == [f"{song} is there twice"]
