"""``layout_guidance`` of a scene: where it holds, and what is refused or warned of."""

from dataclasses import replace

from cloisonne.core.attention.layout_guidance import LayoutGuidance, is_boosted
from cloisonne.core.plan import Plan
from cloisonne.errors import CapabilityError, SceneError
from cloisonne.methods.compile import Compiled
from cloisonne.models.model import Model
from cloisonne.scene.scene import Scene


def guided_layout(compiled: Compiled, scene: Scene, model: Model) -> Compiled:
    """A compiled scene with its layout guidance, or with a warning where no phrase is boosted.

    Raises CapabilityError where the network has no cross-attention.
    """
    if scene.layout_guidance == 0:
        return compiled
    grid = (compiled.plan.views[0].weight.shape[0], compiled.plan.views[0].weight.shape[1])
    if not any(site.cross for site in model.net.sites(grid)):
        raise CapabilityError(
            f'layout_guidance is {scene.layout_guidance:g}, but "{model.name}" has no cross-attention, whose gradient '
            "it follows; leave it out."
        )
    if not any(map(is_boosted, compiled.plan.views)):
        warning = (
            "layout_guidance changes nothing here: no phrase is boosted; give regions phrases, and the method bounded."
        )
        return replace(compiled, warnings=(*compiled.warnings, warning))
    return replace(compiled, plan=compiled.plan + Plan(updates=(LayoutGuidance(scene.layout_guidance),)))


def refuse_layout_guidance(scene: Scene, what: str) -> None:
    """Raise SceneError where the scene has layout guidance. what: is made, such as "edits"."""
    if scene.layout_guidance:
        raise SceneError(
            f"layout_guidance is {scene.layout_guidance:g}, but {what} share latents with another image; leave it out."
        )
