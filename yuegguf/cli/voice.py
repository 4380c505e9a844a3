"""`voice save`, `voice list`, `voice info` and `voice rm`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from yuegguf.cli._completion import VOICE
from yuegguf.cli._console import Console
from yuegguf.cli._options import (
    ReferenceOptions,
    codec_option,
    memory_option,
    models_root,
    pass_output,
    reference_options,
    threads_option,
)
from yuegguf.errors import YueError
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.song.voices import Voice


@click.group(short_help="save, list and remove voices for run --voice")
def voice() -> None:
    """References kept as codes, a few KB each, for run --voice NAME.

    They lie in $YUEGGUF_VOICES_DIR, by default beside the installed models.

    \b
    yuegguf voice save anna --ref anna.mp3
    yuegguf run --voice anna -g "female pop" -l lyrics.txt
    """


@voice.command(short_help="keep a recording's window as a voice")
@click.argument("name")
@reference_options
@click.option("--force", is_flag=True, help="Replace a voice of that name.")
@threads_option
@memory_option
@codec_option
@pass_output
def save(
    output: Console,
    /,
    name: str,
    recordings: ReferenceOptions,
    force: bool,
    codec: Path | None,
    threads: int | None,
    max_memory: int | None,
) -> None:
    """Encode a recording, or the vocal and the backing of one, and keep the window as voice NAME.

    \b
    yuegguf voice save anna --ref anna.mp3 --ref-start 42 --ref-end 72
    yuegguf voice save duo --ref-vocal vocal.wav --ref-inst backing.wav
    """
    from yuegguf.models.resolve import ModelChoice
    from yuegguf.pipeline.engines import chosen_codec
    from yuegguf.pipeline.voice import check_voice, encode_voice
    from yuegguf.song.voices import save_voice

    if not recordings.files:
        raise click.UsageError("pass the recording: --ref FILE, or --ref-vocal FILE --ref-inst FILE")
    compute, reference = ComputeOptions(threads=threads, max_memory=max_memory), recordings.reference()
    folder = chosen_codec(ModelChoice(codec=codec, models_dir=models_root()), output.progress)
    located = check_voice(name, reference, folder, compute, replace=force, progress=output.progress)
    made = encode_voice(name, located, folder, compute, output.progress)
    output.done()
    path = save_voice(made, replace=force)
    output.say(f"use it: yuegguf run --voice {name} …")
    output.result({**made.to_json(), "file": str(path)}, [str(path)])


@voice.command("list", short_help="all saved voices")
@pass_output
def list_voices(output: Console, /) -> None:
    """List all voices: length, recording, date.

    \b
    yuegguf voice list
    yuegguf voice list --json
    """
    from yuegguf.models import registry
    from yuegguf.song import voices

    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for name in voices.voice_names():
        try:
            found = voices.load_voice(name)
        except YueError as error:  # one damaged file must not hide the others
            output.warn(str(error))
            rows.append({"name": name, "problem": error.message})
        else:
            rows.append(found.to_json())
            lines.append(_line(found))
    folder = registry.voices_dir()
    if not rows:
        output.say(f"no voice is saved in {folder}; save one with: yuegguf voice save NAME --ref FILE")
    output.result({"voices": rows, "folder": str(folder)}, lines)


@voice.command(short_help="where a voice came from")
@click.argument("name", type=VOICE)
@pass_output
def info(output: Console, /, name: str) -> None:
    """Show which recording and window NAME was made from, when, and with which codec.

    \b
    yuegguf voice info anna
    """
    from yuegguf.song import voices

    found = voices.load_voice(name)
    path = voices.voice_path(name)
    lines = [
        f"recording  {' + '.join(found.sources)}",
        f"window     {found.start:g}-{found.end:g} s: {found.seconds:g} s, {_kind(found)}",
        f"saved      {found.saved}",
        f"codec      {found.codec}",
        f"file       {path}, {path.stat().st_size} bytes",
    ]
    output.result({**found.to_json(), "file": str(path), "bytes": path.stat().st_size}, lines)


@voice.command(short_help="delete a voice")
@click.argument("name", type=VOICE)
@pass_output
def rm(output: Console, /, name: str) -> None:
    """Delete voice NAME. Songs that use it keep their own copy of it.

    \b
    yuegguf voice rm anna
    """
    from yuegguf.song import voices

    path = voices.remove_voice(name)
    output.result({"removed": str(path)}, [f"removed {path}"])


def _line(found: Voice) -> str:
    sources = " + ".join(found.sources)
    return f"{found.name:<16} {found.seconds:>5g} s  {_kind(found):<18} {sources}  {found.saved}"


def _kind(found: Voice) -> str:
    return "vocal and backing" if found.dual else "one recording"
