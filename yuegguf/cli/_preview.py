"""Options of drafts and previews."""

from __future__ import annotations

import click

from yuegguf.cli._groups import Group
from yuegguf.cli._numbers import Number
from yuegguf.request.preview_options import PREVIEW_SECONDS, PreviewOptions

_DRAFT = (
    click.option(
        "--draft",
        is_flag=True,
        help="Stop after stage 1 with a quick draft.wav; `yuegguf refine` goes on from there.",
    ),
    click.option("--draft-stems", is_flag=True, help="--draft, with both tracks as files as well."),
)
_PREVIEW = (
    click.option(
        "--preview/--no-preview",
        default=None,
        help="Keep preview.wav growing during stage 1: a rough mix at 16 kHz, from codebook 0 alone.",
    ),
    click.option(
        "--preview-every",
        type=Number(0.5),
        metavar="SEC",
        help=f"--preview, written whenever so much music is new [default: {PREVIEW_SECONDS:g}].",
    ),
)


def _preview_seconds(preview: bool | None, preview_every: float | None) -> float | None:
    """Seconds of music between two updates of the preview; 0 = none, None = not given."""
    if preview is False:
        return 0.0
    return preview_every or (PREVIEW_SECONDS if preview else None)


def _preview_options(draft: bool, draft_stems: bool, preview_seconds: float | None) -> PreviewOptions:
    return PreviewOptions("stems" if draft_stems else "mix" if draft else "", preview_seconds or 0.0)


preview_options = Group("preview_seconds", _preview_seconds, *_PREVIEW)
"""Options of a preview alone."""
draft_options = Group("preview", _preview_options, *_DRAFT, preview_options)
"""Options of drafts and previews."""
