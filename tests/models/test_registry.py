"""models.toml and the files on this machine."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import platformdirs
import pytest
from helpers import Capture, refused
from platformdirs.macos import MacOS
from platformdirs.unix import Unix
from platformdirs.windows import Windows

from yuegguf.errors import ModelNotFound, RequestError
from yuegguf.models import registry
from yuegguf.models.registry import (
    find_entry,
    find_gguf,
    gguf_name,
    id_from_path,
    installed_codec,
    installed_quants,
    is_free,
    model_entries,
    model_sets,
    models_dir,
    voices_dir,
)
from yuegguf.models.resolve import ModelChoice, nano_models, reference_notice, resolve, resolve_codec

IDS = (
    "en-cot",
    "en-icl",
    "zh-cot",
    "zh-icl",
    "jp-kr-cot",
    "jp-kr-icl",
    "s1-0.5b",
    "s2-general",
    "xcodec",
    "upsampler",
)


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_ten_models_with_their_roles_and_licences() -> None:
    entries = model_entries()
    assert tuple(entry.id for entry in entries) == IDS
    assert [entry.role for entry in entries] == ["stage1"] * 7 + ["stage2", "codec", "upsampler"]
    assert {entry.licence for entry in entries} == {"Apache-2.0"}
    assert all(re.fullmatch(r"m-a-p/[\w.-]+", entry.source) and entry.about for entry in entries)
    assert len({entry.source for entry in entries}) == 10
    assert all(re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{40}|", entry.revision) for entry in entries)


def test_what_is_known_of_files_is_of_files_that_are_fetched() -> None:
    for entry in model_entries():
        assert entry.expected_files == {} or len(entry.revision) == 40
        for name, facts in entry.expected_files.items():
            assert any(fnmatchcase(name, pattern) for pattern in entry.files)
            assert re.fullmatch("[0-9a-f]{64}", facts.sha256 or "")


def test_sets_are_whole_families() -> None:
    assert list(model_sets()) == ["minimal", "en", "zh", "jp-kr", "all"]
    for ids in model_sets().values():
        roles = [find_entry(name).role for name in ids]
        assert (roles.count("stage2"), roles.count("codec")) == (1, 1)
        assert set(roles[:-2]) == {"stage1"}
    assert set(model_sets()["all"]) == {entry.id for entry in model_entries()} - {"s1-0.5b", "upsampler"}


def test_other_publishers_say_their_own_licence() -> None:
    found = {gguf.source: gguf.licence for entry in model_entries() for gguf in entry.gguf}
    assert found["tensorblock/YuE-s1-7B-anneal-en-cot-GGUF"] == "CC-BY-NC-4.0"
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+-GGUF", source) for source in found)
    assert is_free("apache-2.0")
    assert not is_free("")


def test_stage1_ids_say_language_and_mode() -> None:
    for entry in model_entries()[:6]:
        assert entry.id == f"{entry.language}-{entry.mode}"
        assert entry.source == f"m-a-p/YuE-s1-7B-anneal-{entry.id}"


def test_no_id_hides_the_files_of_another(tmp_path: Path) -> None:
    put(tmp_path, *(gguf_name(name, "Q8_0") for name in IDS))
    for name in IDS:
        assert installed_quants(name, tmp_path) == {"Q8_0": tmp_path / f"{name}-Q8_0.gguf"}


@pytest.mark.parametrize(
    ("there", "quant", "taken"),
    [
        (("Q4_K_M", "Q8_0", "F16"), None, "Q8_0"),
        (("Q4_K_M", "Q5_K_M", "F32"), None, "Q5_K_M"),
        (("Q4_K_M", "BF16"), None, "Q4_K_M"),
        (("F32", "F16", "BF16"), None, "BF16"),
        (("IQ4_XS", "F32"), None, "F32"),
        (("IQ4_XS",), None, "IQ4_XS"),
        (("Q4_K_M", "Q8_0"), "q4_k_m", "Q4_K_M"),
    ],
)
def test_which_quantisation_is_taken(
    there: tuple[str, ...], quant: str | None, taken: str, tmp_path: Path
) -> None:
    put(tmp_path, *(gguf_name("en-cot", name) for name in there))
    assert find_gguf("en-cot", quant, tmp_path).name == f"en-cot-{taken}.gguf"


@pytest.mark.parametrize("name", ["m-a-p/YuE-s1-7B-anneal-en-cot", "M-A-P/yue-s1-7b-anneal-EN-cot"])
def test_a_published_repositorys_name_is_an_id(name: str, tmp_path: Path) -> None:
    put(tmp_path, "en-cot-Q8_0.gguf")
    assert find_gguf(name, None, tmp_path) == tmp_path / "en-cot-Q8_0.gguf"


@pytest.mark.parametrize(
    ("name", "quant", "sentence"),
    [
        (
            "zh-cot",
            None,
            "zh-cot is not installed in {root}; get it with: yuegguf pull zh-cot",
        ),
        (
            "m-a-p/YuE-s2-1B-general",
            None,
            "s2-general is not installed in {root}; get it with: yuegguf pull s2-general",
        ),
        (
            "en-cot",
            "Q4_K_M",
            "en-cot is not installed as Q4_K_M, only as Q6_K, Q8_0; get it with: yuegguf pull en-cot:Q4_K_M",
        ),
        ("{root}/x.gguf", None, "there is no model file {root}/x.gguf; see: yuegguf models list"),
        ("some/folder", None, "there is no model file some/folder; see: yuegguf models list"),
    ],
)
def test_what_is_not_there_is_reported_with_the_way_to_it(
    name: str, quant: str | None, sentence: str, tmp_path: Path
) -> None:
    put(tmp_path, "en-cot-Q8_0.gguf", "en-cot-Q6_K.gguf")
    with pytest.raises(ModelNotFound) as caught:
        find_gguf(name.format(root=tmp_path), quant, tmp_path)
    assert str(caught.value) == sentence.format(root=tmp_path)


def test_a_name_of_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        find_gguf("en", None, tmp_path)
    assert str(caught.value) == f"there is no model called en; known: nano, {', '.join(IDS)}"


@pytest.mark.parametrize("name", ["nano", "mine-Q8_0.gguf"])
def test_a_type_of_what_is_one_file_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine-Q8_0.gguf").touch()
    with pytest.raises(
        RequestError, match=f"--quant Q8_0 chooses between files of one model, and {name} is one"
    ):
        resolve(ModelChoice(name, "nano", models_dir=tmp_path, codec=tmp_path, quant="Q8_0"))


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    put(tmp_path, "any name.gguf")
    assert find_gguf(str(tmp_path / "any name.gguf"), None, tmp_path) == tmp_path / "any name.gguf"


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("YuE-s1-7B-anneal-en-cot", "en-cot"),
        ("yue-s2-1b-general", "s2-general"),
        ("models--m-a-p--YuE-s1-7B-anneal-zh-icl/snapshots/0123abcd", "zh-icl"),
        ("YuE-s1-7B-anneal-en-cot-copy", None),
        ("checkpoint", None),
        ("models--m-a-p--YuE-s1-7B-anneal-zh-icl", "zh-icl"),
        ("models--m-a-p--YuE-s1-7B-anneal-zh-icl/snapshots", "zh-icl"),
        ("YuE-s1-7B-anneal-en-cot/runs/my-opera-finetune", None),
        ("models--m-a-p--YuE-s1-7B-anneal-zh-icl/snapshots/0123abcd/opera", None),
        ("models--me--YuE-s1-7B-anneal-zh-icl/snapshots/0123abcd", None),
    ],
)
def test_a_checkpoints_folder_gives_its_id(folder: str, found: str | None, tmp_path: Path) -> None:
    assert id_from_path(tmp_path / folder) == found


def test_where_models_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same folders as ever, on a system whose name is patched; no Windows machine was at hand."""
    monkeypatch.setenv("YUEGGUF_MODELS_DIR", "~/here")
    assert models_dir() == Path.home() / "here"
    monkeypatch.delenv("YUEGGUF_MODELS_DIR")
    monkeypatch.setattr(platformdirs, "PlatformDirs", Unix)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert models_dir() == Path("/data/yuegguf/models")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert models_dir() == Path.home() / ".local/share/yuegguf/models"
    assert voices_dir() == Path.home() / ".local/share/yuegguf/voices"
    monkeypatch.setattr(platformdirs, "PlatformDirs", MacOS)
    assert models_dir() == Path.home() / "Library/Application Support/yuegguf/models"
    monkeypatch.setattr(platformdirs, "PlatformDirs", Windows)
    monkeypatch.setattr("platformdirs.windows.get_win_folder", lambda _name: "/users/me/AppData/Local")
    assert models_dir() == Path("/users/me/AppData/Local/yuegguf/models")


def test_nothing_installed_means_the_bundled_family(tmp_path: Path) -> None:
    nano = nano_models()
    assert resolve(ModelChoice(models_dir=tmp_path)) == nano
    assert resolve(ModelChoice("nano", models_dir=tmp_path)) == nano
    assert resolve(ModelChoice("nano", "nano", models_dir=tmp_path)) == nano
    assert resolve_codec(ModelChoice(models_dir=tmp_path)) == nano.codec
    with pytest.raises(ModelNotFound) as caught:
        resolve(ModelChoice(quant="Q8_0", models_dir=tmp_path))
    assert str(caught.value) == (
        f"en-cot:Q8_0, s2-general and xcodec are not installed in {tmp_path}; "
        "get them with: yuegguf pull en-cot:Q8_0 s2-general xcodec"
    )


def test_an_installed_family_is_used_whole_and_icl_with_a_reference(tmp_path: Path) -> None:
    put(tmp_path, "en-cot-Q8_0.gguf", "en-icl-Q6_K.gguf", "s2-general-Q8_0.gguf")
    with pytest.raises(ModelNotFound, match=r"the codec is not installed in .*yuegguf pull xcodec"):
        resolve(ModelChoice(models_dir=tmp_path))
    put(tmp_path, "xcodec/decoder.onnx")
    assert installed_codec(tmp_path) == tmp_path / "xcodec"
    found = resolve(ModelChoice(models_dir=tmp_path))
    assert (found.name, found.stage1.name) == ("en-cot-Q8_0", "en-cot-Q8_0.gguf")
    assert (found.stage2.name, found.codec) == ("s2-general-Q8_0.gguf", tmp_path / "xcodec")
    assert resolve(ModelChoice(models_dir=tmp_path), with_reference=True).stage1.name == "en-icl-Q6_K.gguf"


FAMILY = ("s2-general-Q8_0.gguf", "xcodec/decoder.onnx")
COT, ICL = "en-cot-Q8_0.gguf", "en-icl-Q6_K.gguf"


INSTEAD = "en-icl-Q6_K is used instead of {asked}, which was not trained to take up a reference"
PULL = "{name} was not trained to take up a reference; get en-icl with: yuegguf pull en-icl"
PASS = "{name} was not trained to take up a reference; pass --model en-icl"


@pytest.mark.parametrize(
    ("there", "asked", "quant", "found", "notice"),
    [
        ((COT, ICL), None, None, ICL, ""),
        (("zh-cot-Q8_0.gguf", "zh-icl-Q8_0.gguf", COT), None, None, "zh-icl-Q8_0.gguf", ""),
        ((COT, ICL), "en-icl", None, ICL, ""),
        ((COT, ICL), "en-cot", None, ICL, INSTEAD),
        ((COT, ICL), "m-a-p/YuE-s1-7B-anneal-en-cot", None, ICL, INSTEAD),
        ((COT, ICL), "en-cot", "q6_k", ICL, INSTEAD),
        ((COT, ICL), "en-cot", "q8_0", COT, PASS),
        ((COT, ICL), "{root}/en-cot-Q8_0.gguf", None, COT, PASS),
        ((COT, "zh-icl-Q8_0.gguf"), "en-cot", None, COT, PULL),
        (("s1-0.5b-Q8_0.gguf",), "s1-0.5b", None, "s1-0.5b-Q8_0.gguf", PULL),
    ],
)
def test_a_reference_takes_the_icl_model_of_the_language(
    there: tuple[str, ...], asked: str | None, quant: str | None, found: str, notice: str, tmp_path: Path
) -> None:
    put(tmp_path, *there, *FAMILY)
    name = asked.format(root=tmp_path) if asked else None
    choice = ModelChoice(name, quant=quant, models_dir=tmp_path)
    models = resolve(choice, with_reference=True)
    assert models.stage1.name == found
    assert reference_notice(choice, models) == notice.format(asked=asked, name=models.name)


def test_without_any_icl_model_one_is_required(tmp_path: Path) -> None:
    put(tmp_path, COT, *FAMILY)
    with pytest.raises(ModelNotFound) as caught:
        resolve(ModelChoice(models_dir=tmp_path), with_reference=True)
    assert str(caught.value) == (
        f"a reference needs an -icl model, and none is installed in {tmp_path}; "
        "get one with: yuegguf pull en-icl"
    )


def test_the_bundled_family_takes_up_a_reference_itself(tmp_path: Path) -> None:
    put(tmp_path, COT, *FAMILY)
    nano = ModelChoice("nano", models_dir=tmp_path)
    assert reference_notice(nano, resolve(nano, with_reference=True)) == ""
    nothing = ModelChoice(models_dir=tmp_path / "empty")
    assert resolve(nothing, with_reference=True) == nano_models()
    assert resolve(ModelChoice("nano", models_dir=tmp_path)) == nano_models()


@pytest.mark.parametrize(
    ("free", "stage1"),
    [
        (64.0, "Q8_0"),
        (7.5, "Q8_0"),
        (7.4, "Q6_K"),
        (6.0, "Q5_K_M"),
        (5.0, "Q4_K_M"),
        (4.4, "Q4_K_M"),
        (4.2, "Q3_K_M"),
        (0.0, "Q3_K_M"),
    ],
)
def test_the_type_that_is_taken_follows_the_memory(free: float, stage1: str) -> None:
    assert registry.default_quant("stage1", int(free * 2**30)) == stage1
    assert registry.default_quant("stage2", int(free * 2**30)) == "Q8_0"


def test_where_memory_is_unknown_some_is_assumed() -> None:
    assert registry.default_quant("stage1", None) == "Q4_K_M"


def test_every_default_has_its_figures_and_the_finer_one_is_nearer() -> None:
    rows = registry.catalogue().default
    assert [row.memory for row in rows] == sorted((row.memory for row in rows), reverse=True)
    for kind in ("nano", "real"):
        first = [row.kl[kind][0] for row in rows]
        assert first == sorted(first)


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize("line", ["models info {}", "run --example -m {} --plan", "run --example --lora {}"])
def test_a_file_of_nobody_is_not_there(line: str, capsys: Capture) -> None:
    said = refused(capsys, 3, *line.format("~nobody-of-this-name/x.gguf").split())
    assert "~nobody-of-this-name/x.gguf" in said
