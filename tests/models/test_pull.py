"""`pull` against a hub on loopback: what is installed, what is asked for, what every fault ends in."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from family import without_known_hashes
from helpers import Capture, cli
from hub import Fault, Hub
from huggingface_hub import constants
from pulling import EN, files, pull
from yuegguf_convert.gguf_file import read_gguf
from yuegguf_convert.lm import convert_lm

from yuegguf.files import hashing
from yuegguf.models import lockfile, registry


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


OFFER = "whether a model predicts what it should is shown in minutes by: yuegguf models check en-cot:Q8_0\n"
"""What ends the first pull of that model."""


def test_a_set_is_installed_and_its_sources_are_gone(
    capsys: Capture, hub: Hub, root: Path, family: Path
) -> None:
    result = pull(capsys, root, "--set", "minimal", "--quant", "Q5_K_M", "--json")
    assert (result.code, result.err) == (0, "")
    codec = [f"xcodec/{role}.onnx" for role in registry.CODEC_FILES]
    assert files(root) == sorted(["en-cot-Q5_K_M.gguf", "s2-general-Q8_0.gguf", "models.lock.json", *codec])
    assert [Path(f["file"]).name for f in result.json["files"]][:2] == [
        "en-cot-Q5_K_M.gguf",
        "s2-general-Q8_0.gguf",
    ]
    made = convert_lm(family / "stage1", root.parent / "own.gguf", out_type="Q5_K_M")
    assert (root / "en-cot-Q5_K_M.gguf").read_bytes() == made.read_bytes()


def test_the_lock_says_where_every_byte_came_from(
    capsys: Capture, hub: Hub, root: Path, family: Path
) -> None:
    pull(capsys, root, "en-cot")
    (entry,) = lockfile.read_lock(root).values()
    assert (entry.path, entry.name, entry.licence) == ("en-cot-Q8_0.gguf", "en-cot:Q8_0", "apache-2.0")
    assert (entry.source, entry.revision) == (EN, hub.repos[EN].commit)
    assert entry.sha256 == hashing.sha256_of(root / entry.path)
    shard = family / "stage1" / "model-00002-of-00002.safetensors"
    assert entry.files[shard.name] == f"sha256:{hashing.sha256_of(shard)}"
    assert entry.files["config.json"] == f"blob:{hashing.git_blob_sha1(family / 'stage1' / 'config.json')}"
    assert "README.md" not in entry.files


def test_what_is_not_needed_is_not_fetched(capsys: Capture, hub: Hub, root: Path) -> None:
    hub.repos[EN].files |= {"pytorch_model.bin": b"x" * 9999, "../../evil.safetensors": b"y" * 9999}
    hub.repos[EN].files["model/../../../evil.safetensors"] = b"z" * 9999
    assert pull(capsys, root, "en-cot").code == 0
    assert not [path for path in hub.fetched() if "bin" in path or "evil" in path or "README" in path]
    assert not list(root.parent.rglob("evil*"))


def test_a_second_pull_asks_for_nothing(capsys: Capture, hub: Hub, root: Path) -> None:
    first = pull(capsys, root, "en-cot")
    hub.asked.clear()
    again = pull(capsys, root, "en-cot", "EN-COT:q8_0", EN)
    assert (again.code, again.out, hub.asked) == (0, first.out, [])
    assert "en-cot:Q8_0 is installed already" in again.err
    assert first.err.count("models check") == 1
    assert first.err.endswith(OFFER)
    assert "models check" not in again.err  # it was offered when the model came
    assert pull(capsys, root, "en-cot", "--force").code == 0
    assert hub.asked


def test_two_types_of_one_model_are_one_download(capsys: Capture, hub: Hub, root: Path) -> None:
    assert pull(capsys, root, "en-cot:Q8_0", "en-cot:Q4_K_M").code == 0
    assert len([path for path in hub.fetched() if path.startswith("/cdn/")]) == 3  # two shards, tokenizer
    assert files(root) == ["en-cot-Q4_K_M.gguf", "en-cot-Q8_0.gguf", "models.lock.json"]


def test_kept_sources_serve_the_next_type_without_a_network(capsys: Capture, hub: Hub, root: Path) -> None:
    assert pull(capsys, root, "en-cot", "--keep-source").code == 0
    assert "sources/en-cot/model-00001-of-00002.safetensors" in files(root)
    hub.asked.clear()
    assert pull(capsys, root, "en-cot:F16", "--offline").code == 0
    assert hub.asked == []
    assert "sources/en-cot/config.json" in files(root)


def test_offline_without_anything_here(capsys: Capture, hub: Hub, root: Path) -> None:
    result = pull(capsys, root, "en-cot", "--offline")
    assert result.code == 3
    hint = "run the command without --offline, or use --from"
    assert result.error == f"error: {EN} is not on this machine; {hint}"
    assert hub.asked == []


def test_an_abbreviated_revision_is_looked_up(capsys: Capture, hub: Hub, root: Path) -> None:
    assert pull(capsys, root, "s1-0.5b").code == 0
    assert lockfile.read_lock(root)["s1-0.5b-Q8_0.gguf"].revision.startswith("65b4514e")


def test_a_token_goes_to_the_hub_alone(
    capsys: Capture, hub: Hub, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    result = pull(capsys, root, "s2-general")
    assert hub.tokens == {"api Bearer hf_secret", "resolve Bearer hf_secret"}  # and not to another host
    assert "hf_secret" not in result.out + result.err + (root / "models.lock.json").read_text()


def test_a_file_that_convert_made_is_not_replaced(capsys: Capture, hub: Hub, root: Path) -> None:
    root.mkdir()
    (root / "en-cot-Q8_0.gguf").write_bytes(b"mine")
    result = pull(capsys, root, "en-cot")
    assert (result.code, (root / "en-cot-Q8_0.gguf").read_bytes()) == (5, b"mine")
    assert "is already there, and not from pull; use it, or replace it with --force" in result.error
    assert pull(capsys, root, "en-cot", "--force").code == 0
    assert read_gguf(root / "en-cot-Q8_0.gguf").tensors


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["en"], 5, "there is no model called en; known: nano, en-cot"),
        ([], 5, "no model is named; for example: yuegguf pull --set minimal"),
        (["--set", "fr"], 5, "there is no set fr; sets: minimal, en, zh, jp-kr, all"),
        (["en-cot:IQ3_M"], 5, "there is no type 'IQ3_M' to convert to; choose one of F32, .*--from-gguf"),
        (["xcodec:Q8_0"], 5, "xcodec has no types; write: yuegguf pull xcodec"),
        (["upsampler"], 5, "upsampler has nothing to install; its files are in: yuegguf pull xcodec"),
        (["zh-cot", "--from-gguf"], 3, "there is no Q8_0 GGUF of zh-cot in any repository that models.toml"),
    ],
)
def test_what_cannot_be_pulled(
    capsys: Capture, hub: Hub, root: Path, args: list[str], code: int, words: str
) -> None:
    result = pull(capsys, root, *args)
    assert result.code == code
    assert re.search(words, result.error), result.error
    assert hub.fetched() == []


FAULTS = [
    (Fault("api", "401"), 3, "the hub does not give out .* HF_TOKEN"),
    (Fault("api", "403"), 3, "the hub does not give out .* HF_TOKEN"),
    (Fault("api", "404"), 3, r"the hub has no .* \(status 404\); check the name, and HF_ENDPOINT"),
    (Fault("api", "429"), 75, "the hub asks to wait before more of .* run the same command again"),
    (Fault("api", "500"), 75, "the hub failed with status 500 on .* run the same command again"),
    (Fault("api", "html"), 75, "the answer about .* makes no sense .*; check HF_ENDPOINT"),
    (Fault("resolve", "401"), 3, "the hub does not give out .*config.json"),
    (Fault("resolve", "404"), 3, "the hub has no config.json of "),
    (Fault("resolve", "500"), 75, "the hub failed with status 500 on config.json of"),
    (Fault("cdn", "403"), 3, "the hub does not give out model-00001"),
    (Fault("cdn", "404"), 3, "the hub has no model-00001"),
    (Fault("cdn", "429"), 75, "the hub asks to wait before more of model-00001"),
    (Fault("cdn", "503"), 75, "the hub failed with status 503 on model-00001"),
    (Fault("cdn", "truncate", at=0.0), 75, "the connection to the hub failed while model-00001"),
    (Fault("cdn", "reset", at=0.0), 75, "the connection to the hub failed while model-00001"),
    (Fault("cdn", "stall", at=0.0), 75, "the hub stopped answering while model-00001"),
    (
        Fault("cdn", "corrupt"),
        7,
        "model-00001.* arrived damaged 2 times: its hash .*; .* check the proxy, .* the disk and the memory",
    ),
    (Fault("cdn", "short"), 75, "model-00001.* arrived with a wrong length: it ended too early"),
]


@pytest.mark.parametrize(("fault", "code", "words"), FAULTS, ids=[f"{f.where}-{f.kind}" for f, *_ in FAULTS])
def test_every_fault_is_a_sentence_and_the_same_command_goes_on(
    capsys: Capture, hub: Hub, root: Path, fault: Fault, code: int, words: str
) -> None:
    hub.faults = [Fault(fault.where, fault.kind, at=fault.at)]
    result = pull(capsys, root, "en-cot", "--json")
    assert result.code == code
    assert re.search(words, result.error), result.error
    assert not list(root.glob("*.gguf"))
    assert not lockfile.read_lock(root)
    hub.faults = []
    assert pull(capsys, root, "en-cot").code == 0
    assert cli(capsys, "--models-dir", root, "models", "verify").code == 0
    assert files(root) == ["en-cot-Q8_0.gguf", "models.lock.json"]


@pytest.mark.parametrize(
    ("kind", "times"),
    [
        ("truncate", 2),
        ("reset", 1),
        ("429", 2),
        ("503", 2),
        ("trickle", 3),
        ("longer", 9),
        ("corrupt", 1),
        ("overstated", 9),
    ],
)
def test_a_passing_fault_is_not_even_noticed(
    capsys: Capture, hub: Hub, root: Path, kind: str, times: int
) -> None:
    hub.faults = [Fault("cdn", kind, times)]
    result = pull(capsys, root, "en-cot")
    assert (result.code, result.err.replace(OFFER, "")) == (0, "")


def test_half_a_file_is_gone_on_with(capsys: Capture, hub: Hub, root: Path) -> None:
    hub.faults = [Fault("cdn", "truncate", 1, at=0.5), Fault("cdn", "503")]
    assert pull(capsys, root, "en-cot").code == 75
    (part,) = root.rglob(".model-00001*.part")
    kept = part.stat().st_size
    assert kept > 0
    hub.faults, hub.asked = [], []
    assert pull(capsys, root, "en-cot").code == 0
    ranges = {(path[:5], span) for method, path, span in hub.asked if span}
    assert ranges == {("/m-a-", f"bytes={kept}-"), ("/cdn/", f"bytes={kept}-")}


def test_a_server_without_ranges(capsys: Capture, hub: Hub, root: Path) -> None:
    hub.faults = [Fault("cdn", "truncate", 1), Fault("cdn", "503", 3), Fault("cdn", "whole")]
    assert pull(capsys, root, "en-cot").code == 75
    assert pull(capsys, root, "en-cot").code == 0
    assert cli(capsys, "--models-dir", root, "models", "verify").code == 0


def test_a_damaged_download_on_the_disk_is_fetched_again(capsys: Capture, hub: Hub, root: Path) -> None:
    assert pull(capsys, root, "en-cot", "--keep-source").code == 0
    shard = root / "sources/en-cot/model-00002-of-00002.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    assert pull(capsys, root, "en-cot:F16", "--offline").code == 3
    assert pull(capsys, root, "en-cot:F16").code == 0
    assert shard.read_bytes() != data


def test_a_hash_that_models_toml_knows_otherwise(
    capsys: Capture, hub: Hub, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = without_known_hashes()
    facts = replace(
        found.model["s2-general"], expected_files={"model.safetensors": registry.KnownFile("0" * 64)}
    )
    other = replace(found, model={**found.model, "s2-general": facts})
    monkeypatch.setattr(registry, "catalogue", lambda: other)
    result = pull(capsys, root, "s2-general")
    assert result.code == 7
    assert "but models.toml knows 000000" in result.error
    assert hub.fetched() == []


def test_a_full_disk_is_reported_before_the_first_byte(
    capsys: Capture, hub: Hub, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = type("usage", (), {"free": 10**6})()
    monkeypatch.setattr("shutil.disk_usage", lambda _path: free)
    result = pull(capsys, root, "--set", "minimal")
    assert result.code == 1
    assert result.error.startswith("error: en-cot:Q8_0, s2-general:Q8_0, xcodec needs 77.9 MB of disk, and")
    assert hub.fetched() == []


def test_two_pulls_do_not_meet(capsys: Capture, hub: Hub, root: Path) -> None:
    with lockfile.exclusive(root):
        result = pull(capsys, root, "en-cot")
    assert result.code == 1
    assert result.error == f"error: another yuegguf is changing the models in {root}; wait for it to end"


def test_a_checkpoint_of_the_other_stage(capsys: Capture, hub: Hub, root: Path, family: Path) -> None:
    hub.publish(EN, family / "stage2", hub.repos[EN].commit)
    result = pull(capsys, root, "en-cot")
    assert (result.code, files(root)) != (0, [])
    assert "en-cot-Q8_0.gguf is a stage-2 model, but it was given as stage-1" in result.error
    assert not list(root.glob("*.gguf"))


def test_another_licence_is_reported(capsys: Capture, hub: Hub, root: Path) -> None:
    hub.repos[EN].licence = "cc-by-nc-4.0"
    result = pull(capsys, root, "en-cot")
    assert result.code == 0
    assert f"note: the licence of {EN} is cc-by-nc-4.0; YuE v1 itself is under Apache-2.0" in result.err
    for command in (["list"], ["licenses"], ["info", "en-cot"]):
        assert "cc-by-nc-4.0" in cli(capsys, "--models-dir", root, "models", *command).out


def test_the_hubs_own_switch_for_offline(
    capsys: Capture, hub: Hub, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    result = pull(capsys, root, "en-cot")
    assert (result.code, hub.asked) == (3, [])
    assert f"{EN} is not here, and HF_HUB_OFFLINE forbids the network; unset it" in result.error


def test_nobody_answers(capsys: Capture, hub: Hub, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    result = pull(capsys, root, "en-cot")
    assert result.code == 75
    assert f"error: the connection to the hub failed while {EN} was fetched" in result.error
