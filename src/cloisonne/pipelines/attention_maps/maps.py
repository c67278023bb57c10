"""Where the words of each region's phrase were attended to in a run: what ``generate(attention=True)`` gives."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from cloisonne.scene.shapes.geometry import Window


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AttentionMaps(Mapping[str, Tensor]):
    """Maps [h, w] in [0, 1] by region's name; ``maps["a cat"]``, a region's phrase, finds it too.

    A map is the share of each place's cross-attention that goes to a word of the phrase: the mean over its words, all
    steps, pictures, heads and layers of that grid. window: where in the picture (upright, in pixels) the maps lie.
    unread: the regions without a map, and why.
    """

    maps: Mapping[str, Tensor]
    phrases: Mapping[str, str]
    unread: Mapping[str, str]
    window: Window

    def __getitem__(self, name: str) -> Tensor:
        """The map of a region, by its name or else by its phrase; KeyError says why there is none."""
        found = name if name in self.maps else self.phrases.get(name, name)
        if found in self.maps:
            return self.maps[found]
        reason = f"it {self.unread[found]}" if found in self.unread else f"there are {', '.join(self.maps) or 'none'}"
        raise KeyError(f'There is no attention of "{name}": {reason}.')

    def __iter__(self) -> Iterator[str]:
        return iter(self.maps)

    def __len__(self) -> int:
        return len(self.maps)

    def __repr__(self) -> str:
        sizes = sorted({"{} x {}".format(*one.shape) for one in self.maps.values()})
        return f"AttentionMaps of {', '.join(self.maps) or 'no region'} on {', '.join(sizes) or 'no grid'}"
