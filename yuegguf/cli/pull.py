"""`pull`: published models, downloaded, verified and converted in place; offline kits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from yuegguf.cli._completion import MODEL
from yuegguf.cli._console import Console
from yuegguf.cli._groups import Group
from yuegguf.cli._options import PATH, models_root, pass_output
from yuegguf.errors import Interrupted

if TYPE_CHECKING:
    from yuegguf.models.pull import PullOptions


def _pull_options(*, from_gguf: bool, keep_source: bool, offline: bool, force: bool) -> PullOptions:
    from yuegguf.models.pull import PullOptions

    return PullOptions(from_gguf, keep_source, offline, force)


OFFER = "whether a model predicts what it should is shown in minutes by:"
_pull_group = Group(
    "options",
    _pull_options,
    click.option(
        "--from-gguf",
        is_flag=True,
        help="Take another publisher's GGUF and trim it, instead of converting.",
    ),
    click.option("--keep-source", is_flag=True, help="Keep the downloaded originals in sources/."),
    click.option("--offline", is_flag=True, help="Never use the network: only go on with what is here."),
    click.option("--force", is_flag=True, help="Get it again, and replace files that pull did not install."),
)


@click.command(short_help="download models, verified and resumable")
@click.argument("names", type=MODEL, nargs=-1, metavar="[NAME[:TYPE]]...")
@click.option("--set", "set_name", metavar="SET", help="minimal, en, zh, jp-kr or all.")
@click.option(
    "--quant",
    metavar="TYPE",
    help="Type of stage 1 where NAME has none [default: what fits the memory, of 4 bits what suits the CPU].",
)
@click.option("--to", "target", type=PATH, help="Make an offline kit in this folder instead of installing.")
@click.option("--from", "source", type=PATH, help="Install from an offline kit; without NAME, all of it.")
@_pull_group
@pass_output
def pull(
    output: Console,
    /,
    names: tuple[str, ...],
    set_name: str | None,
    quant: str | None,
    target: Path | None,
    source: Path | None,
    options: PullOptions,
) -> None:
    """Download models by NAME (see `models list`), convert them in place and install them.

    Killed at any moment, the same command goes on. HF_TOKEN, HF_ENDPOINT and HTTPS_PROXY work as usual.

    \b
    yuegguf pull --set minimal
    yuegguf pull en-cot:Q4_K_M
    yuegguf pull --set zh --quant Q5_K_M
    yuegguf pull --set en --to /media/usb     # here, with network
    yuegguf pull --from /media/usb            # there, without
    """
    from yuegguf.api import files
    from yuegguf.models import transport

    chosen, progress = models_root(), output.progress
    root = target or chosen
    try:
        if source:
            pulled = files.install_kit(
                source, names, root, set_name=set_name, force=options.force, progress=progress
            )
        else:
            if not (quant or target or options.from_gguf):
                quant = _measured_type(output, names, set_name, chosen)
            pulled = files.pull(
                names, chosen, options, set_name=set_name, quant=quant, kit=target, progress=progress
            )
    except KeyboardInterrupt as error:
        raise Interrupted("stopped, what has arrived is kept", transport.RERUN_HINT) from error
    output.done()
    for name in dict.fromkeys(entry.name for entry in pulled if not entry.new):
        output.say(f"{name} is installed already")
    if not (output.as_json or target):
        for name in [e.name for e in pulled if e.new and e.file.suffix == ".gguf"][:1]:
            output.say(f"{OFFER} yuegguf models check {name}")
    facts = [
        {"name": entry.name, "file": str(entry.file), "bytes": entry.bytes, "sha256": entry.sha256}
        for entry in pulled
    ]
    output.result({"models_dir": str(root), "files": facts}, [str(entry.file) for entry in pulled])


def _measured_type(output: Console, names: tuple[str, ...], set_name: str | None, root: Path) -> str | None:
    """The 4-bit type that suits this machine, where the memory allows just that; else None."""
    from yuegguf.measure.type_choice import default_type
    from yuegguf.models.install import stage1_without_type

    return default_type(stage1_without_type(names, set_name), root, output.say, output.warn)
