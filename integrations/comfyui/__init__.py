"""Nodes for ComfyUI that make songs of lyrics: in its own Python, or through a running `yuegguf serve`."""

from __future__ import annotations

from comfy_api.v0_0_2 import ComfyExtension, io

from .nodes import NODES


class YueExtension(ComfyExtension):
    """The nodes of this folder."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes."""
        return list(NODES)


async def comfy_entrypoint() -> YueExtension:
    """The extension, for ComfyUI's loader."""
    return YueExtension()
