"""The differences between two scenes, and the pixels that they affect."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloisonne.errors import SceneError, spelled
from cloisonne.scene.fields import with_fields
from cloisonne.scene.io.image_ref import ImageRef, given_mask, given_outside
from cloisonne.scene.io.source_image import Source
from cloisonne.scene.outside import Outside
from cloisonne.scene.overlap import uncovered
from cloisonne.scene.region import SHAPES, Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.mask_reading import read_mask
from cloisonne.scene.shapes.masks import Mask, resized


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The differences between two scenes.

    Attributes:
        fields: names of the scene's own fields that differ. They affect the whole image.
        regions: names of the regions that differ, or that only one of the scenes has.
    """

    before: Scene
    after: Scene
    fields: tuple[str, ...]
    regions: tuple[str, ...]

    @classmethod
    def between(cls, before: Scene, after: Scene) -> "Changes":
        """Compare two scenes. ``outside`` is not compared."""
        fields = [name for name in type(before).model_fields if name not in ("regions", "outside")]
        old, new = _by_name(before), _by_name(after)
        return cls(
            before=before,
            after=after,
            fields=tuple(name for name in fields if getattr(before, name) != getattr(after, name)),
            regions=tuple(name for name in {**old, **new} if old.get(name) != new.get(name)),
        )

    def __bool__(self) -> bool:
        return bool(self.fields or self.regions)

    def covered(self, height: int, width: int) -> Mask:
        """Mask [H, W] in [0, 1] of the changed regions, before and after; exactly 0 outside of them."""
        regions = [named[name] for named in self._both for name in self.regions if name in named]
        return 1 - uncovered([region.soft_mask(height, width) for region in regions], height, width)

    def left(self, height: int, width: int) -> Mask | None:
        """Mask [H, W] in [0, 1] of the old shapes of regions that are gone or have a new shape; None if none are."""
        old, new = self._both
        gone = [old[name] for name in self.regions if name in old and _shape(old[name]) != _shape(new.get(name))]
        return 1 - uncovered([one.soft_mask(height, width) for one in gone], height, width) if gone else None

    @property
    def _both(self) -> tuple[dict[str, Region], dict[str, Region]]:
        return _by_name(self.before), _by_name(self.after)


def with_changes(scene: Scene, to: Mapping[str, Any], *, outside: Any = None) -> Scene:
    """Return the scene with some fields changed.

    Args:
        to: new values by field name: "caption", "hat.similarity"; "hat" is the phrase of the region "hat".
        outside: the image generated from ``scene``. Its pixels are preserved, byte for byte, outside of the changed
            regions: both their old and their new shapes. Without it, an image that an earlier change preserved no
            longer covers the regions changed now.

    Raises:
        SceneError: there is no such field, or the value is invalid.
    """
    after = with_fields(scene, to)
    changes = Changes.between(scene, after)
    if outside is not None:
        return _with_outside(changes, given_outside(outside))
    if after.outside is not None and after.outside == scene.outside and changes.regions:
        return _with_earlier_outside(changes, after.outside)
    return after


def _with_outside(changes: Changes, image: ImageRef) -> Scene:
    """The changed scene, with ``image`` outside of the changed regions."""
    if not changes.regions:
        what = f"only {', '.join(changes.fields)} of the whole scene" if changes.fields else "nothing"
        raise SceneError(
            f"The image cannot be preserved outside of the changed regions, because {what} was changed; change a "
            f"region, or leave out {spelled('outside=', '--keep-outside')}."
        )
    source = Source.load(image, "outside")
    left = changes.left(source.height, source.width)
    mask = None if left is None else given_mask(left)
    return changes.after.replace(outside=Outside(image=image, regions=_remaining(changes), mask=mask))


def _with_earlier_outside(changes: Changes, outside: Outside) -> Scene:
    """The changed scene, whose image from an earlier change no longer covers the regions changed now."""
    source = Source.load(outside.image, "outside")
    size = source.height, source.width
    left, mask = changes.left(*size), outside.mask
    if left is not None:
        earlier = [] if mask is None else [resized(read_mask(mask).values, *size)]
        mask = given_mask(1 - uncovered([*earlier, left], *size))
    earlier_regions = [name for name in outside.regions if name in _by_name(changes.after)]
    regions = tuple(dict.fromkeys([*earlier_regions, *_remaining(changes)]))
    return changes.after.replace(outside=outside.replace(regions=regions, mask=mask))


def _remaining(changes: Changes) -> tuple[str, ...]:
    return tuple(name for name in changes.regions if name in _by_name(changes.after))


def _by_name(scene: Scene) -> dict[str, Region]:
    return {region.name or "": region for region in scene.regions}


def _shape(region: Region | None) -> Any:
    return region and [getattr(region, name) for name in (*SHAPES, "mask_channel", "feather")]
