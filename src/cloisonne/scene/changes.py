"""What differs between two scenes, and where: the regions that were changed, before and after."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.scene.fields import with_fields
from cloisonne.scene.io.image_ref import Picture, given_mask, given_outside
from cloisonne.scene.io.source_image import Source
from cloisonne.scene.outside import Outside
from cloisonne.scene.overlap import uncovered
from cloisonne.scene.region import SHAPES, Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.mask_reading import read_mask
from cloisonne.scene.shapes.masks import Mask, resized


@dataclass(frozen=True, kw_only=True)
class Changes:
    """fields: names of the scene's own fields that differ; these change the picture everywhere. regions: names of the
    regions that differ, or are in one of the scenes only."""

    before: Scene
    after: Scene
    fields: tuple[str, ...]
    regions: tuple[str, ...]

    @classmethod
    def between(cls, before: Scene, after: Scene) -> "Changes":
        """The changes from one scene to another. A picture that stands outside of regions is none of them."""
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
        """[H, W]: how far each pixel lies in a changed region, before or after; exactly 0 outside of them."""
        regions = [named[name] for named in self._both for name in self.regions if name in named]
        return 1 - uncovered([region.soft_mask(height, width) for region in regions], height, width)

    def left(self, height: int, width: int) -> Mask | None:
        """[H, W]: the places that changed regions left, wholly or where they are softer now; None where none did."""
        old, new = self._both
        gone = [old[name] for name in self.regions if name in old and _shape(old[name]) != _shape(new.get(name))]
        return 1 - uncovered([one.soft_mask(height, width) for one in gone], height, width) if gone else None

    @property
    def _both(self) -> tuple[dict[str, Region], dict[str, Region]]:
        return _by_name(self.before), _by_name(self.after)


def with_changes(scene: Scene, to: Mapping[str, Any], *, outside: Any = None) -> Scene:
    """The scene with fields at other values, by name: "hat.similarity", "caption"; "hat" is that region's phrase.

    outside: the picture that ``scene`` made, which then stays, byte for byte, outside of the regions that are changed,
    where they were and where they are. Without it, a picture that stays outside of regions from an earlier change no
    longer hides these. Raises SceneError where there is no such field, or it cannot have the value.
    """
    after = with_fields(scene, to)
    changes = Changes.between(scene, after)
    if outside is not None:
        return _kept(changes, given_outside(outside))
    if after.outside is not None and after.outside == scene.outside and changes.regions:
        return _shown(changes, after.outside)
    return after


def _kept(changes: Changes, image: Picture) -> Scene:
    """The scene after, with a picture outside of what was changed."""
    if not changes.regions:
        what = f"only {', '.join(changes.fields)} of the whole scene" if changes.fields else "nothing"
        raise SceneError(
            f"What lies outside of changed regions cannot be kept, because {what} was changed; change a region, or do "
            "not ask for it."
        )
    source = Source.load(image, "outside")
    left = changes.left(source.height, source.width)
    mask = None if left is None else given_mask(left)
    return changes.after.replace(outside=Outside(image=image, regions=_still_there(changes), mask=mask))


def _shown(changes: Changes, outside: Outside) -> Scene:
    """The scene after, whose picture from an earlier change does not hide what was changed now."""
    source = Source.load(outside.image, "outside")
    size = source.height, source.width
    left, mask = changes.left(*size), outside.mask
    if left is not None:
        earlier = [] if mask is None else [resized(read_mask(mask).values, *size)]
        mask = given_mask(1 - uncovered([*earlier, left], *size))
    kept = [name for name in outside.regions if name in _by_name(changes.after)]
    regions = tuple(dict.fromkeys([*kept, *_still_there(changes)]))
    return changes.after.replace(outside=outside.replace(regions=regions, mask=mask))


def _still_there(changes: Changes) -> tuple[str, ...]:
    return tuple(name for name in changes.regions if name in _by_name(changes.after))


def _by_name(scene: Scene) -> dict[str, Region]:
    return {region.name or "": region for region in scene.regions}


def _shape(region: Region | None) -> Any:
    return region and [getattr(region, name) for name in (*SHAPES, "mask_channel", "feather")]
