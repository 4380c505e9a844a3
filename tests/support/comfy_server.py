"""A ComfyUI server on loopback with our nodes, from a checkout of its sources, and a client of its API."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACK = ROOT / "integrations/comfyui"
START_SECONDS, WAIT_SECONDS = 180.0, 300.0
"""Longest waits: for the server's first answer, for the end of a workflow."""
WIDGETS = ("INT", "FLOAT", "STRING", "COMBO", "BOOLEAN")
Prompt = dict[str, Any]


@dataclass(frozen=True)
class ComfyServer:
    """A server that runs."""

    port: int
    folder: Path
    """Its base folder: custom_nodes/, input/, output/."""

    def __call__(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of an answer, None for an empty one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, data, {"content-type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            return json.loads(text) if text else None
        finally:
            connection.close()

    @property
    def songs(self) -> list[Path]:
        """The folders of the nodes' songs, by name."""
        return [file.parent for file in self.songs_files("song.json")]

    def songs_files(self, name: str) -> list[Path]:
        """The files of this name in the nodes' songs."""
        return sorted((self.folder / "output/yuegguf").glob(f"*/{name}"))

    def queue(self, prompt: Prompt) -> str:
        """The id of a workflow that waits from now on."""
        return str(self("POST", "/prompt", {"prompt": prompt})["prompt_id"])

    def wait(self, prompt: str) -> Any:
        """The history of a workflow, once it has ended."""
        wait_for(lambda: prompt in self("GET", f"/history/{prompt}"))
        return self("GET", f"/history/{prompt}")[prompt]

    def run(self, prompt: Prompt) -> Any:
        """The history of a workflow that must succeed."""
        history = self.wait(self.queue(prompt))
        assert history["status"]["status_str"] == "success", history["status"]
        return history


def wait_for(condition: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    """Wait until something is true. Raises AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


@contextmanager
def comfy_server(checkout: Path, folder: Path) -> Iterator[ComfyServer]:
    """A server with the nodes whose files all lie in `folder`."""
    for name in ("custom_nodes", "input", "output", "user"):
        (folder / name).mkdir(parents=True)
    shutil.copytree(PACK, folder / "custom_nodes/yuegguf-nodes", ignore=shutil.ignore_patterns("__pycache__"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    python = os.environ.get("YUEGGUF_COMFYUI_PYTHON", sys.executable)
    command = [python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--base-directory", str(folder), "--database-url", "sqlite:///:memory:"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "YUEGGUF_MODELS_DIR": str(folder / "no models")}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--disable-api-nodes"], cwd=checkout, env=env, stdout=log, stderr=subprocess.STDOUT
        )
        server = ComfyServer(port, folder)

        def answers() -> bool:
            assert process.poll() is None, (folder / "server.log").read_text("utf-8", "replace")[-3000:]
            try:
                return bool(server("GET", "/system_stats"))
            except OSError:
                return False

        try:
            wait_for(answers, START_SECONDS)
            yield server
        finally:
            process.terminate()
            process.wait(30)


def prompt_of(workflow: Mapping[str, Any], nodes: Mapping[str, Any]) -> Prompt:
    """What ComfyUI's page would queue for a workflow; `nodes` is the answer of /object_info."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt: Prompt = {}
    for node in workflow["nodes"]:
        info, values = nodes[node["type"]], list(node["widgets_values"])
        inputs: Prompt = {}
        for name, kind, options in _inputs(info):
            if (isinstance(kind, list) or kind in WIDGETS) and not options.get("forceInput"):
                inputs[name] = values.pop(0)
                for extra in ("control_after_generate", "audio_upload"):
                    if options.get(extra):
                        values.pop(0)
        assert values == [], f"{node['type']} has other widgets"
        for each in node["inputs"]:
            if each["link"] is not None:
                inputs[each["name"]] = links[each["link"]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def _inputs(info: Mapping[str, Any]) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Name, type and options of a node's inputs in their order."""
    for part in ("required", "optional"):
        for name in info["input_order"].get(part, []):
            kind, *options = info["input"][part][name]
            yield name, kind, options[0] if options else {}
