"""AUTOMATIC1111's infotext: the ``parameters`` text from which other tools read how an image was generated."""

import json
import re

from cloisonne.scene.io.png_record import Record
from cloisonne.scene.scene import Scene

PARAMETERS = "parameters"
"""Key of the text in a PNG."""

SAMPLERS = {
    "ddim": "DDIM",
    "euler": "Euler",
    "euler-ancestral": "Euler a",
    "heun": "Heun",
    "dpmpp-2m": "DPM++ 2M",
    "pndm": "PLMS",
}
"""Their names in AUTOMATIC1111."""


def infotext(scene: Scene, record: Record) -> str:
    """Format prompt, negative prompt and settings of a resolved scene, in up to three lines.

    The prompt is the caption and the phrases of the active regions, without their shapes.
    """
    prompt = ", ".join(filter(None, [scene.caption, *(region.phrase for region in scene.active_regions)]))
    lines = [_one_line(prompt)]
    if scene.negative:
        lines.append(f"Negative prompt: {_one_line(scene.negative)}")
    settings: dict[str, object] = {
        "Steps": scene.steps,
        "Sampler": SAMPLERS.get(scene.sampler or "", scene.sampler),
        "Schedule type": "Karras" if scene.spacing == "karras" else "Automatic",
        "CFG scale": f"{scene.guidance:g}",
        "Seed": scene.seed,
        "Size": f"{scene.width}x{scene.height}",
        "Model hash": record.model_hash[:10],
        "Model": record.scene["model"],
    }
    if scene.background is not None:
        settings["Denoising strength"] = f"{scene.strength:g}"
    if scene.eta:
        settings["Eta"] = f"{scene.eta:g}"
    if "cloisonne" in record.versions:
        settings["Version"] = f"cloisonne {record.versions['cloisonne']}"
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in settings.items() if value != ""))
    return "\n".join(lines)


def _one_line(text: str) -> str:
    """Remove line breaks, so that a prompt cannot be parsed as settings."""
    return re.sub(r"\s*\n\s*", " ", text)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:\n"]', value) else value
