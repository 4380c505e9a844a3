"""Every command that writes, as a driver of kills runs it, and the folders that they begin with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from helpers import TEXT
from zygote import Moment, Zygote

from yuegguf.files import hashing

Line = tuple[object, ...]

MACHINE = ("--threads", 1, "--stage2-batch", 1, "--snapshot-every", 15)
SONG = (*TEXT, "--segment-seconds", 1, "--seed", 5, "--model", "nano", *MACHINE)
SHORT = (
    "-g",
    "pop",
    "--lyrics",
    "[verse]\nla",
    "--segment-seconds",
    1,
    "--seed",
    5,
    "--model",
    "nano",
    *MACHINE,
)
"""A song of one second."""
SAMPLE = "yuegguf.song.token_log:TokenLog.append"
QUEUE = """
defaults: {segment-seconds: 1, model: nano, threads: 1, stage2-batch: 1, output-dir: songs}
songs:
  - {name: first, genre: pop, lyrics: "[verse]\\nla la", seed: 7}
  - {name: second, genre: folk, lyrics: "[verse]\\nlo", seed: 8, draft: true}
"""


@dataclass(frozen=True)
class Writer:
    """A command that writes."""

    name: str
    line: Callable[[Path], Line]
    """Its arguments, for the folder that it works in."""
    start: str = "empty"
    """Files before the command; see Stock."""
    again: Callable[[Path, Line], Line] = field(default=lambda _work, line: line)
    """The command that goes on, once it was killed."""
    over: tuple[int, ...] = ()
    """Exit codes that say that nothing was left to do."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables that name folders below it."""


class Stock:
    """Folders that commands begin with, each made once."""

    def __init__(self, root: Path, program: Zygote) -> None:
        self._root, self._program = root, program

    def lay(self, name: str, work: Path) -> None:
        """Copy one into a folder that is there."""
        kept = self._root / name
        if not kept.exists():
            kept.mkdir(parents=True)
            getattr(self, f"_{name}")(kept)
        shutil.copytree(kept, work, dirs_exist_ok=True)

    def _empty(self, folder: Path) -> None: ...

    def _run(self, folder: Path, *line: object, moment: Moment | None = None) -> None:
        result = self._program.run(*line, "-o", folder / "made", moment=moment)
        assert result.code in (0, 6) if moment is None else result.code < 0, result.err
        (made,) = (folder / "made").iterdir()
        made.rename(folder / "song")
        (folder / "made").rmdir()

    def _song(self, folder: Path) -> None:
        self._run(folder, "run", *SONG)

    def _begun(self, folder: Path) -> None:
        self._run(folder, "run", *SONG, "--preview-every", 0.5, moment=Moment(130, SAMPLE))

    def _sampled(self, folder: Path) -> None:
        self._run(folder, "run", *SONG, moment=Moment(1, "yuegguf.song.folder:SongFolder.save_chunk"))

    def _drafted(self, folder: Path) -> None:
        self._run(folder, "run", *SHORT, "--draft-stems")

    def _takes(self, folder: Path) -> None:
        self._run(folder, "run", *SHORT, "-n", 2)

    def _recordings(self, folder: Path) -> None:
        chance = np.random.default_rng(0)
        for name in ("a", "b"):
            soundfile.write(
                folder / f"{name}.wav", 0.3 * np.sin(np.cumsum(chance.normal(0, 0.2, 16000))), 16000
            )

    def _pair(self, folder: Path) -> None:
        codes = np.random.default_rng(3).integers(0, 1024, (2, 8, 100)).astype(np.uint32)
        for name, track in zip(("x_vtrack", "x_itrack"), codes, strict=True):
            np.save(folder / f"{name}.npy", track)

    def _queue(self, folder: Path) -> None:
        (folder / "queue.yaml").write_text(QUEUE)

    def _dataset(self, folder: Path) -> None:
        (folder / "songs" / "one").mkdir(parents=True)
        self._recordings(folder / "songs" / "one")
        for name, track in (("a", "vocals"), ("b", "instrumental")):
            (folder / "songs" / "one" / f"{name}.wav").rename(folder / "songs" / "one" / f"{track}.wav")
        (folder / "songs" / "one" / "lyrics.lrc").write_text("[00:00.00][verse]\n[00:00.00]la la\n")
        (folder / "songs" / "one" / "tags.txt").write_text("pop")

    def _checkpoints(self, folder: Path) -> None:
        from family import write_family

        write_family(folder)

    def _untrimmed(self, folder: Path) -> None:
        self._checkpoints(folder)
        line = ("convert", folder / "stage2", "--type", "F32", "--no-trim", "-o", folder / "full.gguf")
        assert self._program.run(*line).code == 0

    def _peft(self, folder: Path) -> None:
        from adapters import write_peft

        self._checkpoints(folder)
        base = folder / "base.gguf"
        line = ("convert", folder / "stage1", "--type", "F32", "--no-trim", "-o", base)
        assert self._program.run(*line).code == 0
        for name in ("stage1", "stage2", "codec"):
            shutil.rmtree(folder / name)
        write_peft(folder / "opera", base)

    def _adapter(self, folder: Path) -> None:
        self._peft(folder)
        base, made = folder / "base.gguf", folder / "opera.gguf"
        assert self._program.run("convert-lora", folder / "opera", "--base", base, "-o", made).code == 0

    def _kit(self, folder: Path) -> None:
        self._checkpoints(folder / "checkpoints")
        for name in ("stage2", "codec"):
            line = ("convert", "--name", "s2-general") if name == "stage2" else ("export-codec",)
            source = folder / "checkpoints" / name
            result = self._program.run("--models-dir", folder / "kit", line[0], source, *line[1:])
            assert result.code == 0, result.err
        shutil.rmtree(folder / "checkpoints")
        self._lock(folder / "kit")

    def _lock(self, kit: Path) -> None:
        from yuegguf.models import lockfile
        from yuegguf.models.lockfile import Installed

        def entry(file: Path, model: str, quant: str) -> Installed:
            size, digest = file.stat().st_size, hashing.sha256_of(file)
            name = str(file.relative_to(kit))
            return Installed(name, model, quant, size, digest, "apache-2.0", "a/b", "0" * 40, {}, "test")

        entries = [entry(file, "s2-general", "Q8_0") for file in kit.glob("*.gguf")]
        entries += [entry(file, "xcodec", "") for file in sorted(kit.glob("xcodec/*.onnx"))]
        lockfile.update_lock(kit, entries)


def resumed(work: Path, line: Line) -> Line:
    """`resume` of the song that a killed command left; the command itself where it left none."""
    songs = sorted(file.parent for file in (work / "songs").glob("*/song.json"))
    takes = sorted({file.parent.parent for file in (work / "songs").glob("*/take-1/song.json")})
    return ("resume", *(songs or takes), "--threads", 1) if songs or takes else line


def within(line: str) -> Callable[[Path], Line]:
    """A command whose arguments that begin with @ are files of its folder."""
    return lambda work: tuple(work / each[1:] if each.startswith("@") else each for each in line.split())


def into_songs(*line: object) -> Callable[[Path], Line]:
    """A command that makes a song in `songs`."""
    return lambda work: (*(each(work) if callable(each) else each for each in line), "-o", work / "songs")


def at(name: str) -> Callable[[Path], Path]:
    """A file of the command's folder."""
    return lambda work: work / name


CODEC = f"--codec {Path(__file__).resolve().parents[2] / 'yuegguf' / 'data' / 'nano'}"
WRITERS = (
    Writer("run", into_songs("run", *SONG, "--preview-every", 0.5), again=resumed),
    Writer("run --draft", into_songs("run", *SHORT, "--draft-stems"), again=resumed),
    Writer("run -n", into_songs("run", *SHORT, "-n", 2), again=resumed),
    Writer(
        "run --ref",
        into_songs("run", *SHORT, "--ref", at("a.wav"), "--ref-end", 1),
        "recordings",
        again=resumed,
    ),
    Writer("run --queue", within("run --queue @queue.yaml"), "queue"),
    Writer("resume: draft", within("resume @song --threads 1 --snapshot-every 15"), "begun"),
    Writer("resume: refine", within("resume @song --threads 1"), "sampled"),
    Writer("refine", within("refine @song --threads 1"), "drafted"),
    Writer("render", within("render @song --mix vocos --format wav,flac"), "song"),
    Writer("render --force", within("render @song --no-stems --force"), "song"),
    Writer("takes keep", within("takes keep @song 1 --delete-others"), "takes"),
    Writer(
        "extend",
        into_songs("extend", at("song"), "--retake", 2, "--seed", 3, *MACHINE),
        "song",
        again=resumed,
    ),
    Writer(
        "stems",
        into_songs("stems", "--vocal", at("a.wav"), "-g", "pop", "--seed", 5, "--model", "nano", *MACHINE),
        "recordings",
        again=resumed,
    ),
    Writer(
        "import",
        into_songs("import", at("x_vtrack.npy"), at("x_itrack.npy"), *TEXT, "--model", "nano"),
        "pair",
        again=resumed,
    ),
    Writer("export", within("export @song"), "song"),
    Writer("export --yue-ui", within("export @song --yue-ui"), "song"),
    Writer("bundle", within("bundle @song"), "song"),
    Writer("plot", within("plot @song"), "song"),
    Writer("decode", within(f"decode @song -o @out {CODEC}"), "song"),
    Writer("encode", within(f"encode @a.wav @b.wav -o @out {CODEC}"), "recordings"),
    Writer("encode --jsonl", within(f"encode @songs --jsonl @out/train.jsonl {CODEC}"), "dataset"),
    Writer(
        "voice save",
        within(f"voice save anna --ref @a.wav --ref-end 1 {CODEC}"),
        "recordings",
        environment={"YUEGGUF_VOICES_DIR": "voices"},
    ),
    Writer("convert", within("--models-dir @models convert @stage2 --name s2-general"), "checkpoints"),
    Writer("export-codec", within("export-codec @codec -o @out"), "checkpoints"),
    Writer("trim", within("trim @full.gguf -o @out.gguf"), "untrimmed"),
    Writer("quantize", within("quantize @full.gguf Q8_0 -o @out.gguf"), "untrimmed"),
    Writer("convert-lora", within("--models-dir @models convert-lora @opera --base @base.gguf"), "peft"),
    Writer("merge-lora", within("merge-lora @base.gguf @opera.gguf:0.5 -o @merged.gguf"), "adapter"),
    Writer("pull --from", within("--models-dir @models pull --from @kit"), "kit"),
    Writer("pull --to", within("--models-dir @kit pull --to @usb s2-general:Q8_0"), "kit"),
    Writer("models rm", within("--models-dir @kit models rm s2-general:Q8_0"), "kit", over=(3,)),
)
