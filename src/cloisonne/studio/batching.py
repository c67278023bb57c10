"""Which jobs are drawn together, on devices where that is faster."""

from collections.abc import Hashable, Mapping
from typing import Any

from cloisonne.studio.storage.store import Job

FIELDS = ("width", "height", "steps", "sampler", "spacing", "eta", "background")
"""Fields of a scene whose equality makes equal latent sizes, steps and samplers likely."""
ALONE = ("edit", "concept")
"""Conditions of a region that start from an inversion."""


def batch_key(job: Job) -> Hashable:
    """Equal for jobs that may share their forward passes; None for a job that is drawn alone.

    The worker groups the scenes of such jobs once more, by what they are resolved to.
    """
    scene = job.request.get("scene") or {}
    if job.verb not in ("generate", "inpaint") or any(_is_alone(region) for region in scene.get("regions") or ()):
        return None
    count = job.request.get("options", {}).get("num_images", 1)
    return (job.model, count, *(repr(scene.get(name)) for name in FIELDS))


def _is_alone(region: Any) -> bool:
    return isinstance(region, Mapping) and any(region.get(name) for name in ALONE)
