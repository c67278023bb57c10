"""Warnings about a scene's guidance, on models that take its scale as an input."""

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
