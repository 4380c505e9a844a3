"""Options of drafts and previews."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from yuegguf.request.preview_options import PREVIEW_SECONDS, PreviewOptions

F = TypeVar("F", bound=Callable[..., Any])


def draft_options(command: F) -> F:
    """--draft and --draft-stems."""
    stems = click.option("--draft-stems", is_flag=True, help="--draft, with both tracks as files as well.")
    draft = click.option(
        "--draft",
        is_flag=True,
        help="Stop after stage 1 with a quick draft.wav; `yuegguf refine` goes on from there.",
    )
    return draft(stems(command))


def preview_options(command: F) -> F:
    """--preview and --preview-every."""
    every = click.option(
        "--preview-every",
        type=click.FloatRange(0.5),
        metavar="SEC",
        help=f"--preview, written whenever so much music is new [default: {PREVIEW_SECONDS:g}].",
    )
    preview = click.option(
        "--preview/--no-preview",
        default=None,
        help="Keep preview.wav growing during stage 1: a rough mix at 16 kHz, from codebook 0 alone.",
    )
    return preview(every(command))


def preview_options_of(options: dict[str, Any]) -> PreviewOptions:
    """Take both groups out of a command's keywords."""
    draft, stems = options.pop("draft"), options.pop("draft_stems")
    return PreviewOptions("stems" if stems else "mix" if draft else "", preview_seconds(options) or 0.0)


def preview_seconds(options: dict[str, Any]) -> float | None:
    """Take the preview's group out of a command's keywords: seconds, 0 for none, None if nothing is said."""
    wanted, every = options.pop("preview"), options.pop("preview_every")
    if wanted is False:
        return 0.0
    return every or (PREVIEW_SECONDS if wanted else None)
