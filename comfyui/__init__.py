"""ComfyUI nodes of cloisonne. ComfyUI calls :func:`comfy_entrypoint` when it loads this folder from custom_nodes."""

from .extension import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
