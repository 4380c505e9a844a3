"""Files without generation: models, codes, songs of other tools."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from yuegguf.exchange import decode_files, encode_files, exporting, importing
from yuegguf.exchange.decode_files import DecodedAudio
from yuegguf.exchange.encode_files import EncodedFile, EncodeOptions, FinetuningData
from yuegguf.exchange.imported import ImportedFolder, ImportFacts, create_imported_song
from yuegguf.exchange.importing import StemFiles
from yuegguf.exchange.zip_bundle import Bundle, write_bundle
from yuegguf.models import install, registry
from yuegguf.models import pull as pulling
from yuegguf.models.pull import PulledFile, PullOptions
from yuegguf.models.resolve import ModelChoice, nano_notice, resolve
from yuegguf.pipeline.create import warn_each
from yuegguf.pipeline.engines import chosen_codec, stopping
from yuegguf.pipeline.song_job import SongJob
from yuegguf.planning import hardware
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Progress, silent
from yuegguf.request.prepared import prepare
from yuegguf.request.song_request import Output
from yuegguf.song.folder import SongFolder

Paths = Path | str | Sequence[Path | str]
"""One path, or several."""


def pull(
    names: Sequence[str] = (),
    models_dir: Path | str | None = None,
    options: PullOptions | None = None,
    *,
    set_name: str | None = None,
    quant: str | None = None,
    kit: Path | str | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> tuple[PulledFile, ...]:
    """Download models by name ("en-cot", "en-cot:Q4_K_M"), convert them and install them in `models_dir`.

    `set_name` adds the models of a set; `quant` is the type of a stage-1 model that is named without one,
    None = what fits this machine's memory. With `kit` they are put into that folder instead, an offline kit
    for `install_kit`. Killed or stopped at any moment, the same call goes on. Raises YueError.
    """
    root = Path(models_dir or registry.models_dir())
    options = options or PullOptions()
    memory = hardware.available_memory()
    wanted = install.wanted_models(names, set_name, quant, memory, from_gguf=options.from_gguf)
    return pulling.pull_models(Path(kit or root), wanted, options, stopping(progress, stop), root)


def install_kit(
    kit: Path | str,
    names: Sequence[str] = (),
    models_dir: Path | str | None = None,
    *,
    set_name: str | None = None,
    force: bool = False,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> tuple[PulledFile, ...]:
    """Install models from an offline kit, without a network: those named and of the set, or all of it.

    Files there that `pull` did not install are replaced with `force` only. Raises YueError.
    """
    root = Path(models_dir or registry.models_dir())
    return pulling.install_kit(root, Path(kit), names, set_name, stopping(progress, stop), force=force)


def encode(
    files: Paths,
    output_dir: Path | str | None = None,
    models: ModelChoice | None = None,
    options: EncodeOptions | None = None,
    *,
    compute: ComputeOptions | None = None,
    force: bool = False,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> tuple[EncodedFile, ...]:
    """Encode recordings to codes, each as an .npy of its name in `output_dir`, None = beside it.

    A recording that does not fit into the memory whole is encoded in parts, with a warning through
    `progress`. Files that exist are replaced with `force` only. Raises YueError.
    """
    report = stopping(progress, stop)
    return encode_files.encode_files(
        _paths(files),
        Path(output_dir) if output_dir else None,
        chosen_codec(models or ModelChoice(), report),
        options or EncodeOptions(),
        compute or ComputeOptions(),
        force=force,
        progress=report,
    )


def encode_songs(
    folder: Path | str,
    out: Path | str,
    models: ModelChoice | None = None,
    *,
    compute: ComputeOptions | None = None,
    force: bool = False,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> FinetuningData:
    """Encode a folder of songs to finetuning data: the JSONL file `out`, and `codes/` beside it.

    Each song is a folder with vocals.*, instrumental.*, lyrics.lrc and tags.txt. Codes that are there from
    an earlier call with the same recording and codec are used again. Raises YueError.
    """
    report = stopping(progress, stop)
    codec, options = chosen_codec(models or ModelChoice(), report), compute or ComputeOptions()
    return encode_files.encode_songs(Path(folder), Path(out), codec, options, force=force, progress=report)


def decode(
    codes: Paths,
    output_dir: Path | str | None = None,
    models: ModelChoice | None = None,
    output: Output | None = None,
    *,
    compute: ComputeOptions | None = None,
    force: bool = False,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> DecodedAudio:
    """Make audio files of codes: a song folder, a folder with *vtrack.npy and *itrack.npy, those two files,
    or one track's file.

    They go into `output_dir`, None = beside the codes. Files that exist are replaced with `force` only.
    Raises YueError.
    """
    return decode_files.decode_files(
        _paths(codes),
        Path(output_dir) if output_dir else None,
        output or Output(),
        models or ModelChoice(),
        compute.threads if compute else None,
        force=force,
        progress=stopping(progress, stop),
    )


def import_song(
    source: Paths | StemFiles,
    models: ModelChoice | None = None,
    output_dir: Path | str = "songs",
    facts: ImportFacts | None = None,
    *,
    name: str | None = None,
    compute: ComputeOptions | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> ImportedFolder:
    """Make a song folder of a YuE-UI project, of YuE's pair of .npy files (or their folder), or of two stems.

    `resume` refines or renders it, `extend` goes on from it. Assumptions come as warnings through
    `progress`. Raises YueError.
    """
    choice, options, report = models or ModelChoice(), compute or ComputeOptions(), stopping(progress, stop)
    found = resolve(choice)
    warn_each([notice for notice in [nano_notice(choice, found)] if notice], report)
    given = source if isinstance(source, StemFiles) else _paths(source)
    song = importing.read_source(given, facts or ImportFacts(), found.codec, options, report)
    return create_imported_song(song, SongJob(prepare(song.request), found, Path(output_dir), name, options))


def export_song(
    song: Path | str,
    output_dir: Path | str | None = None,
    *,
    yue_ui: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[Path, ...]:
    """Write a song's codes as infer.py's .npy files, or as a project of YuE-UI; returns the files.

    They go into `output_dir`, None = the song folder's `export/`. Raises YueError.
    """
    folder = SongFolder.open(Path(song))
    target = Path(output_dir) if output_dir else folder.path / "export"
    if yue_ui:
        return exporting.write_project(folder, target, force, progress)
    return exporting.write_npy_files(folder, target, force)


def bundle(song: Path | str, out: Path | str | None = None, *, force: bool = False) -> Bundle:
    """Put a finished song's audio, section marks and song.json into the zip `out`, None = beside its folder.

    The same song gives the same bytes. Raises YueError.
    """
    return write_bundle(Path(song), Path(out) if out else None, force=force)


def _paths(given: Paths) -> list[Path]:
    return [Path(given)] if isinstance(given, str | Path) else [Path(each) for each in given]
