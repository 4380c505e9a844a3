"""`convert`, `export-codec`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import click

from yuegguf.cli._console import Console
from yuegguf.cli._options import PATH, force_option, models_root, pass_output
from yuegguf.errors import RequestError
from yuegguf.files.atomic import ensured_folder
from yuegguf.models import lockfile, registry
from yuegguf.models.lockfile import installing
from yuegguf.models.registry import ModelEntry


@click.command(short_help="published checkpoint → GGUF")
@click.argument("source", type=PATH)
@click.option(
    "--type",
    "out_type",
    default="Q8_0",
    show_default=True,
    help="F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, …",
)
@click.option("--name", help="Model id to install it as, such as en-cot [default: from the folder's name].")
@click.option("-o", "--output", "target", type=PATH, help="Write here instead of installing.")
@click.option("--role", type=click.Choice(["auto", "stage1", "stage2"]), default="auto", show_default=True)
@click.option(
    "--trim/--no-trim", default=True, show_default=True, help="Leave out ids that the stage never uses."
)
@force_option
@pass_output
def convert(
    output: Console,
    /,
    source: Path,
    out_type: str,
    name: str | None,
    target: Path | None,
    role: str,
    trim: bool,
    force: bool,
) -> None:
    """Convert SOURCE, or trim a .gguf.

    SOURCE is a folder with config.json, tokenizer.model and the weights (safetensors, or files of PyTorch,
    which are read without executing them), or the top folder of a repository in a Hugging Face cache.

    \b
    yuegguf convert YuE-s1-7B-anneal-en-cot --type Q4_K_M
    yuegguf convert YuE-s2-1B-general
    yuegguf convert other-tools.gguf -o trimmed.gguf
    """
    from yuegguf_convert.lm import convert_lm
    from yuegguf_convert.source import checkpoint_folder
    from yuegguf_convert.trim import trim_gguf

    if source.suffix == ".gguf" and not source.is_dir():
        if target is None:
            raise RequestError("a trimmed copy needs a name", "pass -o FILE")
        made = trim_gguf(source, target, role=role, overwrite=force, progress=output.progress)
    else:
        path, entry = target, None
        if path is None:
            if name is None:
                checkpoint_folder(source)  # an adapter needs another command, and no name
            entry = _published(source, name)
            path = lockfile.install_path(models_root(), "", registry.gguf_name(entry.id, out_type.upper()))
        with ensured_folder(path.parent), installing(path.parent, [path.name]) if entry else nullcontext():
            if entry:
                _check_stage(source, role, entry)
            made = convert_lm(
                source,
                path,
                out_type=out_type,
                role=role,
                trim=trim,
                overwrite=force,
                progress=output.progress,
            )
    output.done()
    output.result({"file": str(made), "bytes": made.stat().st_size}, [str(made)])


def _published(source: Path, name: str | None) -> ModelEntry:
    """The language model that a checkpoint is installed as. Raises RequestError."""
    entries = {entry.id: entry for entry in registry.model_entries() if entry.role.startswith("stage")}
    model_id = name or registry.id_from_path(source)
    if model_id and registry.is_known(model_id):
        model_id = registry.find_entry(model_id).id
    if model_id in entries:
        return entries[model_id]
    known = ", ".join(entries)
    if name:
        raise RequestError(f"there is no language model called {name!a}", f"pass -o FILE, or one of {known}")
    raise RequestError(
        f"{source} does not have a published model's name", f"pass -o FILE, or --name with one of {known}"
    )


def _check_stage(source: Path, role: str, entry: ModelEntry) -> None:
    """Refuse a checkpoint of another stage than the model's. Raises YueError."""
    from yuegguf_convert.llama_tensors import read_config
    from yuegguf_convert.source import checkpoint_folder
    from yuegguf_convert.tokenizer_pieces import stage_role

    stage = stage_role(read_config(checkpoint_folder(source)).context, role, source.name)
    if stage != entry.role:
        raise RequestError(
            f"{source} is a stage-{stage[-1]} model, and {entry.id} is of stage {entry.role[-1]}",
            "name another model with --name, or pass -o FILE",
        )


@click.command("export-codec", short_help="published codec → ONNX")
@click.argument("source", type=PATH)
@click.option("-o", "--output", "target", type=PATH, help="Folder to write to [default: install it].")
@click.option("--fp16", is_flag=True, help="Store weights in 16 bits: half the size on disk.")
@click.option("--force", is_flag=True, help="Replace existing files.")
@pass_output
def export_codec(output: Console, /, source: Path, target: Path | None, fp16: bool, force: bool) -> None:
    """Export SOURCE, a folder like xcodec_mini_infer (final_ckpt/ and decoders/), to four ONNX files.

    \b
    yuegguf export-codec xcodec_mini_infer
    """
    from yuegguf_onnx_codec.export import export_codec as export
    from yuegguf_onnx_codec.export import find_checkpoints

    folder = target or lockfile.install_path(models_root(), "xcodec", "decoder.onnx").parent
    paths = [f"xcodec/{role}.onnx" for role in registry.CODEC_FILES]
    with nullcontext() if target else installing(models_root(), paths):
        files = export(
            *find_checkpoints(source), folder, half=fp16, overwrite=force, progress=output.progress
        )
    output.done()
    output.result({"files": [str(file) for file in files]}, [str(file) for file in files])
