"""`pull --from-gguf`: another publisher's GGUF is trimmed and installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from family import COMMIT
from helpers import Capture
from hub import Hub
from pulling import THEIRS, files, pull
from yuegguf_convert.lm import convert_lm
from yuegguf_convert.trim import trim_gguf

from yuegguf.models import lockfile


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


def test_another_publishers_gguf_is_trimmed_not_quantised_again(
    capsys: Capture, hub: Hub, root: Path, family: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    name = "YuE-s1-7B-anneal-en-cot.{}.gguf"
    for kind in ("Q5_K_M", "Q5_K_S", "Q8_0"):
        convert_lm(family / "stage1", folder / name.format(kind), out_type=kind, trim=False)
    whole = folder / name.format("Q5_K_M")
    hub.publish(THEIRS, folder, COMMIT)
    assert pull(capsys, root, "en-cot:Q5_K_M", "--from-gguf").code == 0
    expected = trim_gguf(whole, tmp_path / "trimmed.gguf")
    assert (root / "en-cot-Q5_K_M.gguf").read_bytes() == expected.read_bytes()
    entry = lockfile.read_lock(root)["en-cot-Q5_K_M.gguf"]
    assert (entry.source, entry.revision) == (THEIRS, COMMIT)
    assert set(entry.files) == {whole.name, "tokenizer.model"}
    assert files(root) == ["en-cot-Q5_K_M.gguf", "models.lock.json"]


def test_a_gguf_that_is_trimmed_already_is_taken_as_it_is(
    capsys: Capture, hub: Hub, root: Path, family: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    made = convert_lm(family / "stage1", folder / "yue_q8_0.gguf", out_type="Q8_0")
    hub.publish(THEIRS, folder, COMMIT)
    assert pull(capsys, root, "en-cot", "--from-gguf").code == 0
    assert (root / "en-cot-Q8_0.gguf").read_bytes() == made.read_bytes()


@pytest.mark.parametrize("trim", [True, False])
def test_a_gguf_of_the_other_stage_is_refused(
    capsys: Capture, hub: Hub, root: Path, family: Path, tmp_path: Path, trim: bool
) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    convert_lm(family / "stage2", folder / "yue-Q8_0.gguf", out_type="Q8_0", trim=trim)
    hub.publish(THEIRS, folder, COMMIT)
    result = pull(capsys, root, "en-cot", "--from-gguf")
    assert result.code == 7
    assert "is a stage-2 model, but it was given as stage-1" in result.error
    assert not list(root.glob("*.gguf"))
