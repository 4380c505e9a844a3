"""Models that are missing, bundled or of an impossible type: named at once, before the network is asked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import Capture, cli, refused

from yuegguf.errors import ModelNotFound
from yuegguf.models import hub_client, registry
from yuegguf.models.resolve import ModelChoice, nano_models, resolve


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


@pytest.mark.parametrize(
    ("there", "choice", "sentence"),
    [
        (
            ("en-cot-Q8_0.gguf",),
            {},
            "s2-general and xcodec are not installed in {root}; get them with: yuegguf pull s2-general "
            "xcodec",
        ),
        (
            ("en-cot-Q8_0.gguf", "s2-general-Q8_0.gguf"),
            {"quant": "Q4_K_M"},
            "en-cot:Q4_K_M and xcodec are not installed in {root}; get them with: yuegguf pull en-cot:Q4_K_M "
            "xcodec",
        ),
        (
            (),
            {"stage1": "x.gguf", "codec": Path("codec")},
            "there is no model file x.gguf, and s2-general is not installed in {root}; see: yuegguf models "
            "list; get it with: yuegguf pull s2-general",
        ),
        (
            ("en-cot-Q8_0.gguf", "xcodec/decoder.onnx"),
            {},
            "s2-general is not installed in {root}; get it with: yuegguf pull s2-general",
        ),
    ],
)
def test_all_missing_models_are_named_with_one_command(
    there: tuple[str, ...], choice: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    put(tmp_path, *there)
    with pytest.raises(ModelNotFound) as caught:
        resolve(ModelChoice(**choice, models_dir=tmp_path))
    assert str(caught.value) == sentence.format(root=tmp_path)


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize("command", ["pull", "models rm"])
@pytest.mark.parametrize("name", ["nano", "NANO:Q8_0"])
def test_the_bundled_models_are_neither_pulled_nor_removed(command: str, name: str, capsys: Capture) -> None:
    said = refused(capsys, 5, *command.split(), name)
    what = "nano is bundled: there is nothing to get or remove"
    assert said == f"{what}; use it with: yuegguf run -m nano"


@pytest.mark.usefixtures("no_models")
def test_the_bundled_models_are_described_verified_and_located(capsys: Capture) -> None:
    nano = nano_models()
    files = [nano.stage1, nano.stage2, *(nano.codec / f"{role}.onnx" for role in registry.CODEC_FILES)]
    located = cli(capsys, "models", "path", "nano", "--json")
    assert (located.code, located.json["files"]) == (0, [str(path) for path in files])
    described = cli(capsys, "models", "info", "NANO", "--json").json["files"]
    note = "it is bundled with yuegguf: there is nothing to get or remove"
    assert [(facts["file"], facts["notes"]) for facts in described] == [(str(path), [note]) for path in files]
    assert [facts["role"] for facts in described[:2]] == ["stage1", "stage2"]
    verified = cli(capsys, "models", "verify", "nano", "--json")
    assert (verified.code, verified.json["ok"]) == (0, True)
    assert {row["state"] for row in verified.json["files"]} == {"readable, and bundled"}
    assert refused(capsys, 5, "models", "info", "nano:Q8_0") == "nano has no types; write: nano"


@pytest.mark.usefixtures("no_models")
def test_a_file_of_any_name_is_verified(capsys: Capture, tmp_path: Path) -> None:
    shutil.copy(nano_models().stage1, tmp_path / "any.gguf")
    verified = cli(capsys, "models", "verify", tmp_path / "any.gguf", "--json")
    assert verified.code == 0
    state = "readable, and not from pull: there is no hash to compare with"
    assert [row["state"] for row in verified.json["files"]] == [state]


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("en-cot:Q99", "there is no type 'Q99' to convert to; choose one of F32, F16, BF16, Q8_0, Q6_K,"),
        ("en-cot --quant Q99", "there is no type 'Q99' to convert to; choose one of F32, F16, BF16,"),
        ("en-cot:q99 --from-gguf", "there is no type 'Q99'; choose one of F32, F16, BF16, Q8_0, Q6_K,"),
        ("--set minimal --quant IQ3_M", "there is no type 'IQ3_M' to convert to; choose one of F32, F16,"),
        ("xcodec en-cot:iq3_m", "there is no type 'IQ3_M' to convert to; choose one of F32, F16, BF16,"),
    ],
)
def test_a_type_is_checked_before_the_network_is_asked(
    words: str, sentence: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_words: object) -> None:
        pytest.fail("the network was asked")

    monkeypatch.setattr(hub_client, "query_snapshot", asked)
    said = refused(capsys, 5, "pull", *words.split())
    assert said.startswith(sentence)
    assert said.endswith("or take a GGUF that has it: yuegguf pull en-cot:IQ3_M --from-gguf") == (
        words == "xcodec en-cot:iq3_m"
    )
