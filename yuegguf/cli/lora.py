"""`convert-lora` and `merge-lora`: adapters of stage 1."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import click

from yuegguf.cli._console import Console
from yuegguf.cli._options import PATH, force_option, models_root, pass_output
from yuegguf.files.atomic import ensured_folder
from yuegguf.lm.adapters import Lora
from yuegguf.models import lockfile
from yuegguf.models.resolve import LORA_FOLDER, find_lora


@click.command("convert-lora", short_help="PEFT LoRA adapter → GGUF adapter")
@click.argument("source", metavar="FOLDER", type=PATH)
@click.option("--base", type=PATH, help="GGUF of the model it was trained on [default: YuE's 7B stage 1].")
@click.option("--name", help="Name to install it as [default: the folder's].")
@click.option("-o", "--output", "target", type=PATH, help="Write here instead of installing.")
@force_option
@pass_output
def convert_lora(
    output: Console,
    /,
    source: Path,
    base: Path | None,
    name: str | None,
    target: Path | None,
    force: bool,
) -> None:
    """Convert FOLDER, with adapter_config.json and adapter_model.safetensors, for `run --lora`.

    \b
    yuegguf convert-lora opera
    yuegguf run --lora opera:0.8 -g "opera tenor" -l lyrics.txt
    """
    from yuegguf_convert.lora import convert_lora as convert

    path = target
    if path is None:
        path = lockfile.install_path(models_root(), LORA_FOLDER, f"{name or source.resolve().name}.gguf")
    with nullcontext() if target else ensured_folder(path.parent):
        made = convert(source, path, base=base, overwrite=force, progress=output.progress)
    output.done()
    output.result({"file": str(made), "bytes": made.stat().st_size}, [str(made)])


@click.command("merge-lora", short_help="GGUF model + LoRA adapters → GGUF model")
@click.argument("base", type=PATH)
@click.argument("adapters", metavar="ADAPTER[:SCALE]...", nargs=-1, required=True)
@click.option("-o", "--output", "target", type=PATH, required=True, help="File to write.")
@force_option
@pass_output
def merge_lora(output: Console, /, base: Path, adapters: tuple[str, ...], target: Path, force: bool) -> None:
    """Add adapters to the weights of BASE, an F32, F16 or BF16 file that can be quantised afterwards.

    \b
    yuegguf merge-lora en-cot-BF16.gguf opera:0.8 -o opera-BF16.gguf
    yuegguf quantize opera-BF16.gguf Q4_K_M -o opera-Q4_K_M.gguf
    """
    from yuegguf_convert.merge import merge_loras

    found = [find_lora(Lora.parse(text), models_root()) for text in adapters]
    made = merge_loras(base, found, target, overwrite=force, progress=output.progress)
    output.done()
    report = {"file": str(made), "bytes": made.stat().st_size, "loras": [str(lora) for lora in found]}
    output.result(report, [str(made)])
