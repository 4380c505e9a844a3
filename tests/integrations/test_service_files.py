"""Files for containers and services: they parse, and their commands, options and pins are the product's."""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from command_lines import parse

ROOT = Path(__file__).resolve().parents[2]
INTEGRATIONS = ROOT / "integrations"
UNITS = sorted(INTEGRATIONS.glob("systemd/*.service"))
TIMER = INTEGRATIONS / "systemd" / "yuegguf-queue.timer"
STOPPED = 75


def containerfile() -> str:
    return re.sub(r"\\\n\s*", " ", (ROOT / "Containerfile").read_text("utf-8"))


def instruction(name: str, text: str = "") -> list[str]:
    return re.findall(rf"^{name}\s+(.*)$", text or containerfile(), re.MULTILINE)


def copied_names(text: str = "") -> set[str]:
    lines = [line.split() for line in instruction("COPY", text) if "--from" not in line]
    return {name for words in lines for name in words[:-1]}


def test_the_pin_of_llama_cpp_is_that_of_the_package() -> None:
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    pin = next(each for each in needed if each.startswith("llama-cpp-python"))
    assert f'LLAMA_CPP_PYTHON="{pin}"' in instruction("ARG")


def test_what_the_image_copies_is_let_through_and_is_what_the_wheel_needs() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    copied = copied_names()
    assert copied == allowed
    assert {path.name for path in ROOT.iterdir()} >= copied
    assert copied >= {"pyproject.toml", "setup.py", "models.toml", "yuegguf", "convert", "onnx_codec"}


def test_the_image_serves_as_a_user_without_rights() -> None:
    assert instruction("USER") == ["1000:1000"]
    entry, command = (json.loads(instruction(name)[-1]) for name in ("ENTRYPOINT", "CMD"))
    assert entry == ["yuegguf"]
    parse(command)
    assert instruction("STOPSIGNAL") == ["SIGTERM"]
    assert "/health" in instruction("HEALTHCHECK")[0]


def test_every_variant_has_a_build_and_a_run_stage() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", containerfile(), re.MULTILINE))
    assert {f"{variant}-{part}" for variant in ("cpu", "cuda") for part in ("build", "run")} <= stages


def test_variables_of_the_image_are_read_by_the_product() -> None:
    documented = (ROOT / "docs" / "environment.md").read_text("utf-8")
    used = set(re.findall(r"YUEGGUF_[A-Z_]+", containerfile() + (ROOT / "compose.yaml").read_text("utf-8")))
    for unit in UNITS:
        used |= set(re.findall(r"YUEGGUF_[A-Z_]+", unit.read_text("utf-8")))
    used -= {"YUEGGUF_CPUS", "YUEGGUF_MEMORY"}  # compose's own
    assert used
    assert all(f"`{name}`" in documented for name in used), used


def test_compose_starts_the_image_with_a_read_only_root() -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]["yuegguf"]
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert service["read_only"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["cap_drop"] == ["ALL"]


def unit_settings(unit: Path) -> dict[str, list[str]]:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    text = re.sub(r"^(Environment)=(\w+)=", r"\1.\2=", unit.read_text("utf-8"), flags=re.MULTILINE)
    parser.read_string(text)
    return {key: value.split() for section in parser.sections() for key, value in parser.items(section)}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.name))
def test_units_run_commands_that_exist_and_know_a_stop(unit: Path) -> None:
    settings = unit_settings(unit)
    assert settings["ExecStart"][0] == "/opt/yuegguf/bin/yuegguf"
    parse(settings["ExecStart"][1:])
    assert settings["SuccessExitStatus"] == [str(STOPPED)]
    assert settings["KillSignal"] == ["SIGTERM"]
    assert settings["Type"] == (["notify"] if "serve" in settings["ExecStart"] else ["exec"])


def test_the_units_share_their_folder_as_one_user() -> None:
    found = [unit_settings(unit) for unit in UNITS]
    for key in ("User", "DynamicUser", "StateDirectory", "CacheDirectory"):
        assert len({tuple(settings[key]) for settings in found}) == 1


def test_a_queue_is_started_each_night_and_by_nothing_else() -> None:
    """A start after the hour of `--stop-at` would work until that of the next day."""
    settings = unit_settings(TIMER)
    assert settings["WantedBy"] == ["timers.target"]
    assert settings["OnCalendar"] == ["*-*-*", "22:00"]
    assert "Persistent" not in settings
    assert "WantedBy" not in unit_settings(TIMER.with_suffix(".service"))


def test_a_queue_is_started_again_after_a_kill_alone() -> None:
    settings = unit_settings(INTEGRATIONS / "systemd" / "yuegguf-queue.service")
    # any code of our own would come again, or is the end of a night
    assert settings["Restart"] == ["on-abnormal"]
    assert {"StartLimitBurst", "StartLimitIntervalSec"} <= settings.keys()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", [*UNITS, TIMER], ids=lambda unit: str(unit.name))
def test_systemd_finds_no_fault_in_the_units(unit: Path, tmp_path: Path) -> None:
    for each in (*UNITS, TIMER):  # the program is not installed there
        copy = each.read_text("utf-8").replace("/opt/yuegguf/bin/yuegguf", "/bin/true")
        (tmp_path / each.name).write_text(copy)
    command = ["systemd-analyze", "verify", str(tmp_path / unit.name)]
    checked = subprocess.run(command, capture_output=True, text=True)
    about = [line for line in checked.stderr.splitlines() if unit.name in line]
    assert about == []


def job() -> dict[str, Any]:
    text = (INTEGRATIONS / "kubernetes" / "queue-job.yaml").read_text("utf-8")
    return next(each for each in yaml.safe_load_all(text) if each["kind"] == "Job")["spec"]


def test_each_pod_of_the_job_takes_its_part() -> None:
    spec = job()
    (container,) = spec["template"]["spec"]["containers"]
    arguments = [each.replace("$(JOB_COMPLETION_INDEX)", "0") for each in container["args"]]
    parse(arguments)
    part = container["args"][container["args"].index("--part") + 1]
    assert part == f"$(JOB_COMPLETION_INDEX)/{spec['completions']}"
    assert spec["completionMode"] == "Indexed"
    assert spec["maxFailedIndexes"] <= spec["completions"]


def test_a_stopped_pod_is_no_failure_of_the_job() -> None:
    rules = job()["podFailurePolicy"]["rules"]
    (stopped,) = [rule for rule in rules if STOPPED in rule.get("onExitCodes", {}).get("values", [])]
    assert stopped["action"] == "Ignore"
    assert job()["template"]["spec"]["restartPolicy"] == "Never"  # the policy of failures needs it


def test_the_volumes_of_the_job_are_declared() -> None:
    pod = job()["template"]["spec"]
    names = {volume["name"] for volume in pod["volumes"]}
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= names
        assert container["securityContext"]["readOnlyRootFilesystem"]


def test_all_files_of_the_queue_reach_the_volume(tmp_path: Path) -> None:
    queue, songs = tmp_path / "queue", tmp_path / "songs"
    (queue / "..2026_01_01").mkdir(parents=True)
    songs.mkdir()
    (queue / "..data").symlink_to("..2026_01_01")
    files = {"songs.yaml": b"songs: []", "first.txt": b"[verse]\nla", "a b.wav": b"\0RIFF"}
    for name, content in files.items():
        (queue / "..2026_01_01" / name).write_bytes(content)
        (queue / name).symlink_to(f"..data/{name}")
    (songs / "first.txt").write_bytes(b"of an earlier queue")
    (init,) = job()["template"]["spec"]["initContainers"]
    script = init["command"][-1].replace("/queue/", f"{queue}/").replace("/songs/", f"{songs}/")
    environment = {**os.environ, "JOB_COMPLETION_INDEX": "2"}
    subprocess.run([*init["command"][:-1], script], env=environment, check=True)
    assert {path.name: path.read_bytes() for path in songs.iterdir()} == files
    assert not any(path.is_symlink() for path in songs.iterdir())


def space_maker() -> ModuleType:
    path = INTEGRATIONS / "huggingface-space" / "make_space.py"
    spec = importlib.util.spec_from_file_location("make_space", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_space_has_all_that_its_image_copies(tmp_path: Path) -> None:
    space = tmp_path / "space"
    space_maker().make(space)
    text = (space / "Dockerfile").read_text("utf-8")
    copied = {
        name for line in instruction("COPY", text) if "--from" not in line for name in line.split()[:-1]
    }
    assert copied - {"README.md"} <= {path.name for path in space.iterdir()}
    _, header, _ = (space / "README.md").read_text("utf-8").split("---\n", 2)
    facts = yaml.safe_load(header)
    assert (facts["sdk"], facts["app_port"]) == ("docker", int(instruction("EXPOSE")[0]))
    shell = json.loads(instruction("CMD", text)[-1])
    arguments = shlex.split(re.sub(r"\$\{[^}]*\}|\$\w+", "x", shell[2]))
    assert arguments[:2] == ["exec", "yuegguf"]
    parse(arguments[2:])
    assert [path for pattern in ("*.so", "*.pyd", "__pycache__") for path in space.rglob(pattern)] == []
    with pytest.raises(FileExistsError, match="begin with a new Space"):
        space_maker().make(space)


SITE_README = """---
title: My songs
emoji: 🐢
colorFrom: red
colorTo: green
sdk: docker
pinned: false
---

Check out the configuration reference at https://huggingface.co/docs/hub/spaces-config-reference
"""
"""README.md that the site commits to a Docker Space when it is made."""


@pytest.mark.parametrize("attributes", ["*.zip filter=lfs diff=lfs merge=lfs -text\n*.onnx filter=lfs", ""])
def test_the_files_of_a_new_space_are_completed(tmp_path: Path, attributes: str) -> None:
    (tmp_path / "README.md").write_text(SITE_README, encoding="utf-8")
    (tmp_path / ".gitattributes").write_text(attributes, encoding="utf-8")
    space_maker().make(tmp_path)
    header = yaml.safe_load((tmp_path / "README.md").read_text("utf-8").split("---\n")[1])
    assert [header[key] for key in ("title", "emoji", "colorTo", "app_port")] == [
        "My songs",
        "🐢",
        "green",
        8451,
    ]
    lines = (tmp_path / ".gitattributes").read_text("utf-8").splitlines()
    assert lines[: len(attributes.splitlines())] == attributes.splitlines()
    by_lfs = {line.split()[0] for line in lines if "filter=lfs" in line}
    binary = [path for path in tmp_path.rglob("*") if path.is_file() and b"\0" in path.read_bytes()[:8000]]
    assert binary
    assert all(any(path.match(pattern) for pattern in by_lfs) for path in binary)
    assert len(lines) == len({*lines})


@pytest.mark.parametrize(
    "text", [f"{SITE_README}My notes.\n", SITE_README.replace("docker", "gradio"), "# x\n", ""]
)
def test_a_readme_that_somebody_wrote_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    with pytest.raises(FileExistsError, match="not the one of a new Docker Space"):
        space_maker().make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text("utf-8") == text


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_scripts_of_pinokio_load_and_name_each_other() -> None:
    folder = INTEGRATIONS / "pinokio"
    program = """
const scripts = {}
for (const name of ["install", "start", "update", "reset"]) scripts[name] = require(`./${name}.js`)
const launcher = require("./pinokio.js")
const info = (on) => ({ running: (n) => on.includes(n), exists: (n) => on.includes(n),
                        local: () => ({ url: "http://127.0.0.1:8451/" }) })
const states = [[], ["install.js"], ["env"], ["env", "start.js"], ["env", "reset.js"]]
Promise.all(states.map((on) => launcher.menu(null, info(on))))
  .then((menus) => console.log(JSON.stringify({ scripts, menus, icon: launcher.icon })))
"""
    done = subprocess.run(["node", "-e", program], cwd=folder, capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout)
    assert (folder / facts["icon"]).is_file()
    links = [item["href"] for menu in facts["menus"] for item in menu]
    assert all((folder / link).is_file() for link in links if not link.startswith("http"))
    assert [menu[0]["text"] for menu in facts["menus"]] == [
        "Install", "Installing", "Start", "Open the page", "Resetting",
    ]  # fmt: skip
    serve, remembered = facts["scripts"]["start"]["run"]
    parse(shlex.split(serve["params"]["message"][0].replace("{{port}}", "8451"))[1:])
    install, update = (facts["scripts"][name]["run"] for name in ("install", "update"))
    assert update[1] == install[0]  # an update may build llama.cpp again, for the same machine
    assert "GGML_CUDA" in install[0]["params"]["env"]["CMAKE_ARGS"]
    event = serve["params"]["on"][0]["event"]
    shown = re.search(event[1:-1].replace("\\/", "/"), "http://127.0.0.1:8451/#key=x")
    assert shown is not None
    assert shown[0] == "http://127.0.0.1:8451/"
    assert remembered["params"]["url"] == "{{input.event[0]}}"


def test_no_script_removes_songs_or_models() -> None:
    reset = (INTEGRATIONS / "pinokio" / "reset.js").read_text("utf-8")
    assert re.findall(r'path: "(.*?)"', reset) == ["env"]
