r"""Prompts of AUTOMATIC1111 in the syntax of a scene, which differs in a few signs.

Braces are plain characters there; LoRA tags may have further scales; unbalanced brackets are plain characters, and
``[a|b]`` alternates from step to step.
"""

import re

from cloisonne.errors import SceneError
from cloisonne.scene.io.interchange.imported_values import Report
from cloisonne.scene.prompt import escaped, pieces
from cloisonne.scene.values import brief

_BRACE = re.compile(r"\\?[{}]")
_SCALES = re.compile(r"<(lora|lyco):([^<>:]+):([^<>:]*):[^<>]*>", re.IGNORECASE)
_LORA = re.compile(r"<(?:lora|lyco):[^<>]+>", re.IGNORECASE)


def scene_text(text: str, owner: str, report: Report) -> str:
    """A prompt in the syntax of a scene. A text without a meaning there is taken literally.

    Args:
        text: the prompt.
        owner: what messages call it, such as "The prompt".
        report: called with a sentence for each change of meaning.
    """
    text = " ".join(text.split())
    if _SCALES.search(text):
        report(f"{owner} has LoRAs with more than one scale; the first was kept.")
        text = _SCALES.sub(r"<\1:\2:\3>", text)
    converted = _BRACE.sub(lambda found: found[0].replace("\\", r"\\")[:-1] + f"\\{found[0][-1]}", text)
    try:
        pieces(converted)
    except SceneError as error:
        report(f"{owner} was taken literally, without weights and schedules. {error}")
        return escaped(text)
    return converted


def loras_in(text: str) -> str:
    """The LoRA tags of a text, in a form for messages; "" if there are none."""
    return ", ".join(brief(tag) for tag in _LORA.findall(text))


def trimmed(text: str) -> str:
    """A part of a prompt without the commas and spaces at its ends."""
    return text.strip().strip(",").strip()
