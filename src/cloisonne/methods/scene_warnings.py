"""Warnings about fields of a scene that change nothing on a model, or by a method."""

from collections.abc import Iterator

from cloisonne.models.model import Model
from cloisonne.scene.scene import Scene

_NEEDS_NULL = {
    "negative": lambda scene: scene.negative != "",
    "guidance_interval": lambda scene: tuple(scene.guidance_interval) != (0.0, 1.0),
    "guidance_rescale": lambda scene: scene.guidance_rescale != 0,
}
"""Fields of a scene that change or replace the null branch of guidance, and whether a scene sets them."""


def guidance_warnings(scene: Scene, model: Model) -> tuple[str, ...]:
    """A warning about each field that changes nothing, because the model's guidance has no null branch."""
    if not model.spec.embeds_guidance:
        return ()
    return tuple(
        f'The scene\'s {field} changes nothing: "{model.name}" takes the scale of guidance as an input and has no '
        "negative prompt; leave it out."
        for field, is_set in _NEEDS_NULL.items()
        if is_set(scene)
    )


_IN_JOINT_ATTENTION = ("isolated", "bounded", "bounded-words")
"""The methods whose regions are masks of joint attention."""


def joint_warnings(scene: Scene, model: Model) -> Iterator[str]:
    """A warning about each option of joint attention that changes nothing."""
    for name in ("isolate", "blocks"):
        if getattr(scene, name) is None:
            continue
        if not model.spec.joint:
            yield f'{name} changes nothing here: "{model.name}" has no joint attention of text and image; leave it out.'
        elif scene.method not in _IN_JOINT_ATTENTION:
            yield (
                f'{name} changes nothing here: the method "{scene.method}" has no regions in joint attention; choose '
                "isolated or bounded."
            )
