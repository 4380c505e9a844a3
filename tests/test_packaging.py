"""What is in the wheel and the sdist, and that the installed package runs where ours is not."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import yuegguf
from yuegguf.stages import step_sampler

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = "raise SystemExit('a file of the working folder was imported')\n"
HEAVY = ("torch", "transformers", "torchaudio", "scipy", "onnx", "spox", "gguf")

Run = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout as git sees it, so that building leaves nothing in ours."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("git, or its checkout, is not here")
    copy = tmp_path_factory.mktemp("source") / "yuegguf"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # git lists a deleted file until the deletion is committed
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    return copy


def build(tree: Path, out: Path, *what: str) -> Path:
    """Build with the setuptools that is installed; returns the one file of that kind."""
    command = [sys.executable, "-m", "build", "--no-isolation", *what, "--outdir", str(out), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl" if "--wheel" in what else "*.tar.gz"))


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, tmp_path_factory.mktemp("sdist"), "--sdist")


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, tmp_path_factory.mktemp("wheel"), "--wheel")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel alone in a folder, as pip lays it out."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target"]
    subprocess.run([*command, str(target), str(wheel)], check=True, capture_output=True)
    return target


def names(wheel: Path) -> list[str]:
    return sorted(zipfile.ZipFile(wheel).namelist())


def python_files(folder: Path, package: str) -> set[str]:
    return {f"{package}/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*.py")}


def test_the_wheel_holds_the_three_packages_their_data_and_nothing_else(source: Path, wheel: Path) -> None:
    expected = python_files(source / "yuegguf", "yuegguf") | {"yuegguf/models.toml", "yuegguf/py.typed"}
    expected |= python_files(source / "convert", "yuegguf_convert")
    expected |= python_files(source / "onnx_codec", "yuegguf_onnx_codec")
    package = source / "yuegguf"
    expected.add("yuegguf/stages/_sampler.pyi")
    for data in (package / "data", package / "server" / "page"):
        expected |= {
            f"yuegguf/{path.relative_to(package).as_posix()}" for path in data.rglob("*") if path.is_file()
        }
    about = f"yuegguf-{yuegguf.__version__}.dist-info"
    listed = names(wheel)
    compiled = {n for n in listed if n.startswith("yuegguf/stages/_sampler.") and not n.endswith(".pyi")}
    assert len(compiled) == (step_sampler.compiled is not None)
    assert {n for n in listed if not n.startswith(about)} - compiled == expected
    assert f"{about}/licenses/LICENSE" in listed
    models = [n for n in listed if n.startswith("yuegguf/data/nano/")]
    assert (
        sorted(n.rpartition(".")[2] for n in models if n.endswith(("f", "x"))) == ["gguf"] * 2 + ["onnx"] * 4
    )
    assert {"yuegguf/data/example/genre.txt", "yuegguf/data/example/lyrics.txt"} < set(listed)


def test_shipped_files_are_the_checkouts_to_the_byte(source: Path, wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    assert archive.read("yuegguf/models.toml") == (source / "models.toml").read_bytes()
    for name in ("data/nano/stage1.gguf", "data/nano/decoder.onnx", "data/example/lyrics.txt"):
        assert archive.read(f"yuegguf/{name}") == (source / "yuegguf" / name).read_bytes()
    assert archive.read("yuegguf_convert/lm.py") == (source / "convert" / "lm.py").read_bytes()


def test_a_wheel_made_from_the_sdist_is_the_same(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build(next(tmp_path.glob("yuegguf-*")), tmp_path / "out", "--wheel")
    assert names(again) == names(wheel)
    first, second = zipfile.ZipFile(wheel), zipfile.ZipFile(again)
    assert [n for n in names(wheel) if first.read(n) != second.read(n)] == []


def test_the_wheel_asks_for_what_the_project_file_lists(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(next(n for n in names(wheel) if n.endswith("METADATA"))).decode()
    required = [
        line.removeprefix("Requires-Dist: ")
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist") and "extra ==" not in line
    ]
    assert sorted(required) == sorted(_normal(text) for text in project()["dependencies"])
    assert not any(name in " ".join(required) for name in ("torch", "transformers", "scipy"))


def _normal(requirement: str) -> str:
    from packaging.requirements import Requirement

    return str(Requirement(requirement))


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def in_trap(installed: Path, tmp_path: Path, *command: str) -> Run:
    """Run Python with the installed wheel, in a folder whose own modules must not be imported."""
    for name in ("convert.py", "onnx_codec.py", "nano.py"):
        (tmp_path / name).write_text(HOSTILE)
    (tmp_path / "sitecustomize.py").write_text("")
    env = {**os.environ, "PYTHONPATH": str(installed), "YUEGGUF_MODELS_DIR": str(tmp_path / "none")}
    return subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )


def test_installed_commands_run_beside_a_hostile_convert_py(installed: Path, tmp_path: Path) -> None:
    version = in_trap(installed, tmp_path, "-m", "yuegguf", "--version")
    assert (version.returncode, version.stdout) == (0, f"yuegguf, version {yuegguf.__version__}\n")
    listed = in_trap(installed, tmp_path, "-m", "yuegguf", "models", "list", "--json")
    assert len(json.loads(listed.stdout)["models"]) == 10
    doctor = in_trap(installed, tmp_path, "-m", "yuegguf", "doctor", "--json")
    assert json.loads(doctor.stdout)["codec"] == "bundled nano"
    where = in_trap(installed, tmp_path, "-c", "import yuegguf; print(yuegguf.__file__)")
    assert where.stdout.strip() == str(installed / "yuegguf" / "__init__.py")


DRIVER = """
import json, sys
from yuegguf.cli import run_in_process

lyrics = "[verse]\\nla la"
args = ["run", "-g", "pop", "--lyrics", lyrics, "--segment-seconds", "1", "--threads", "1", "--model", "nano"]
code = run_in_process([*args, "--json", "-o", "songs"])
held = [name for name in sys.argv[1:] if name in sys.modules]
print(json.dumps({"code": code, "held": held}))
"""


def test_a_song_is_generated_without_loading_torch_or_a_converter(installed: Path, tmp_path: Path) -> None:
    done = in_trap(installed, tmp_path, "-c", DRIVER, *HEAVY)
    song, facts = (json.loads(line) for line in done.stdout.splitlines())
    assert facts == {"code": 0, "held": []}
    assert song["seconds"] == 1.0
    assert (tmp_path / song["folder"] / "mix.wav").is_file()


def test_the_converters_of_the_wheel_are_found(installed: Path, tmp_path: Path) -> None:
    done = in_trap(installed, tmp_path, "-m", "yuegguf", "convert", "nowhere", "--name", "en-cot")
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    codec = in_trap(installed, tmp_path, "-m", "yuegguf", "export-codec", "nowhere")
    assert (codec.returncode, codec.stderr.count("\n")) == (3, 1)


def test_public_names_are_sorted_and_resolve() -> None:
    assert yuegguf.__all__ == sorted(yuegguf.__all__)
    assert dir(yuegguf) == yuegguf.__all__
    for name in yuegguf.__all__:
        assert getattr(yuegguf, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'song_of_songs'"):
        _ = yuegguf.song_of_songs


def test_public_names_have_types_without_being_imported() -> None:
    """What a type checker sees under TYPE_CHECKING are the names of __all__, from their homes."""
    tree = ast.parse(Path(yuegguf.__file__).read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {
        name.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if name.asname == name.name  # `as` itself: exported
    }
    assert seen == {name: f"yuegguf.{home}" for name, home in yuegguf._HOMES.items()}
    assert sorted([*seen, "__version__"]) == yuegguf.__all__


def test_type_checkers_know_the_public_names(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(
        "import yuegguf\n"
        "reveal_type(yuegguf.generate(yuegguf.SongRequest('pop', '[verse]')))\n"
        "reveal_type(yuegguf.Sampling().top_k)\n"
        "yuegguf.SongRequest(genre=3, lyrics='')\n"
    )
    cache = ("--cache-dir", str(ROOT / ".mypy_cache"))  # so that this takes a second after `make lint`
    command = [sys.executable, "-m", "mypy", "--strict", *cache, str(snippet)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600).stdout
    assert 'Revealed type is "yuegguf.request.song_request.Song"' in said
    assert re.search(r'Revealed type is "(builtins\.)?int"', said)
    assert 'Argument "genre" to "SongRequest" has incompatible type "int"' in said


def test_one_version_everywhere() -> None:
    assert project()["version"] == yuegguf.__version__
    changes = ROOT / "CHANGELOG.md"
    if not changes.is_file():
        pytest.skip("there is no CHANGELOG.md yet")
    numbered = re.findall(r"^## \[?(\d\S*?)\]?\s", changes.read_text("utf-8"), re.MULTILINE)
    assert numbered[0] == yuegguf.__version__
