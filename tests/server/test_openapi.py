"""Requests made from the OpenAPI document: none is answered with a fault of the server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import FAST, TEXT, Run
from hypothesis import HealthCheck, Phase, given, settings
from serving_client import WAIT, Client, IdleWorker, served

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

EXAMPLES = 6
"""Requests to each operation."""
STREAM = "/events"
"""End of paths whose answers do not end."""


@pytest.fixture
def client(tmp_path: Path, sung: Run) -> Iterator[Client]:
    songs = tmp_path / "songs"
    with served(songs, IdleWorker, compat=("cog",), max_queue=60) as found:
        shutil.copytree(sung(*TEXT, *FAST), songs / "done")
        yield found


def test_no_request_of_the_document_is_a_fault_of_the_server(client: Client) -> None:
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{client.port}/v1/openapi.json")
    given_input = {"genre_description": "pop", "lyrics": "[verse]\nla"}
    prediction = client("POST", "/predictions", {"input": given_input}).json["id"]
    answers: dict[str, set[int]] = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        if not operation.path.endswith(STREAM) and operation.method != "delete":
            known = prediction if "/predictions/" in operation.path else "done"
            answers[operation.label] = _statuses(operation, known)
    faults = {label: found for label, found in answers.items() if any(status >= 500 for status in found)}
    assert faults == {}
    assert len(answers) > 30
    assert {status for found in answers.values() for status in found} >= {200, 202, 400, 404}
    assert 200 in answers["GET /v1/songs/{song}/project"]
    assert client("GET", "/health").status == 200


def _statuses(operation: Any, song: str) -> set[int]:
    """Statuses of the answers to requests of an operation, half of them about a song that is there."""
    found: set[int] = set()
    number = 0

    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=[*HealthCheck],
    )
    @given(operation.as_strategy())
    def call(case: Any) -> None:
        nonlocal number
        number += 1
        if number % 2 and "song" in (case.path_parameters or {}):
            case.path_parameters["song"] = song
        answer = case.call(timeout=WAIT)
        if answer.status_code >= 500:
            print(case.as_curl_command(), answer.text)
        found.add(answer.status_code)

    call()
    return found
