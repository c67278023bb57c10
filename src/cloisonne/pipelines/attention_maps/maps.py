"""Cross-attention maps of each region's phrase: the result of ``generate(attention=True)``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from cloisonne.scene.shapes.geometry import Window


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AttentionMaps(Mapping[str, Tensor]):
    """Maps [h, w] in [0, 1] by region name; a region's phrase, such as ``maps["a cat"]``, works too.

    A map is the cross-attention probability of the phrase's words at each position: the mean over words, steps, images,
    heads, and layers of that grid. window: the maps' area in the upright image, in pixels. unread: regions without a
    map, with the reason.
    """

    maps: Mapping[str, Tensor]
    phrases: Mapping[str, str]
    unread: Mapping[str, str]
    window: Window

    def __getitem__(self, name: str) -> Tensor:
        """The map of a region, by name or else by phrase. Raises KeyError with the reason if there is none."""
        found = name if name in self.maps else self.phrases.get(name, name)
        if found in self.maps:
            return self.maps[found]
        reason = f"it {self.unread[found]}" if found in self.unread else f"there are {', '.join(self.maps) or 'none'}"
        raise KeyError(f'There is no attention map of "{name}": {reason}.')

    def __iter__(self) -> Iterator[str]:
        return iter(self.maps)

    def __len__(self) -> int:
        return len(self.maps)

    def __repr__(self) -> str:
        sizes = sorted({"{} x {}".format(*one.shape) for one in self.maps.values()})
        return f"AttentionMaps of {', '.join(self.maps) or 'no region'} on {', '.join(sizes) or 'no grid'}"
