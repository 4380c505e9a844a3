"""Parameter types whose values a shell can complete: songs, models, voices."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from yuegguf.errors import YueError

SONGS = Path("songs")
"""Folder whose songs are offered."""


class SongPath(click.Path):
    """A song folder; those of `songs` are offered, and any folder."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Song folders, then any folder."""
        from yuegguf.song.lookup import song_folders

        names = sorted(str(folder) for folder in song_folders(SONGS))
        return [*_items(names, incomplete), CompletionItem(incomplete, type="dir")]


class ModelName(click.ParamType[str]):
    """A published or installed model, or a file."""

    name = "text"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names of models with their installed types, then any file."""
        from yuegguf.models import registry

        root = models_root_of(ctx)
        names = [registry.NANO]
        for entry in registry.model_entries():
            quants = registry.installed_quants(entry.id, root)
            names += [entry.id, *(f"{entry.id}:{quant}" for quant in quants)]
        return [*_items(names, incomplete), CompletionItem(incomplete, type="file")]


class VoiceName(click.ParamType[str]):
    """A saved voice."""

    name = "text"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names of saved voices."""
        from yuegguf.song import voices

        try:
            return _items(voices.voice_names(), incomplete)
        except YueError:  # without a home folder there are none
            return []


def models_root_of(context: click.Context) -> Path:
    """The folder of installed models that the command line names, or the default one."""
    from yuegguf.models import registry

    return Path(context.find_root().params.get("models_dir") or registry.models_dir())


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


SONG = SongPath(path_type=Path)
MODEL = ModelName()
VOICE = VoiceName()
