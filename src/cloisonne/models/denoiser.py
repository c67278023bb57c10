"""What every denoising network provides, a UNet or a transformer: an x0 estimator with a spec, sites and a cost."""

from collections.abc import Mapping
from typing import Protocol, Self, runtime_checkable

from torch import nn

from cloisonne.core.plan import Net, Site
from cloisonne.models.cost import Cost
from cloisonne.models.spec import NetSpec
from cloisonne.models.unet.region_lora import Lora


@runtime_checkable
class HasCost(Protocol):
    """A network whose cost is known before it runs."""

    def cost(self, canvas: tuple[int, int], num_tokens: int) -> Cost:
        """One batch row on a canvas (H, W), conditioned on ``num_tokens`` tokens; nothing is computed."""
        ...


@runtime_checkable
class ReusesFeatures(Protocol):
    """A network that can reuse deep features between steps (``Call.deep``); others ignore them."""

    @property
    def reuses_features(self) -> bool:
        """Whether it does: some of its checkpoints may have no deep features."""
        ...


@runtime_checkable
class HasOuterCost(ReusesFeatures, Protocol):
    """A network that reuses deep features wherever it may; others decide that by what they compute."""

    def outer_cost(self, canvas: tuple[int, int], num_tokens: int) -> Cost:
        """As ``cost``, of a forward that reuses them."""
        ...


@runtime_checkable
class Enlarges(Protocol):
    """A network that can be changed for canvases larger than those of its training."""

    def enlarged(self, scale: float) -> Self:
        """A network of the same weights for canvases ``scale`` times as wide and high as those of its training."""
        ...


@runtime_checkable
class Denoiser(Net, HasCost, Protocol):
    """A network that estimates x0 from a :class:`~cloisonne.core.plan.Call`; letters as in ``core.plan``.

    Nothing outside ``models`` reads more of a network than this. Raise CapabilityError for a part of a call that the
    network does not take, such as residuals, image prompts or attention edits.
    """

    @property
    def spec(self) -> NetSpec:
        """Latent space, inputs and geometry."""
        ...

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The modules that hold its weights."""
        ...

    @property
    def loras(self) -> Mapping[str, Lora]:
        """The LoRAs by region that it holds, by name; empty for networks without any."""
        ...

    def sites(self, canvas: tuple[int, int]) -> tuple[Site, ...]:
        """Its attention layers, in the order of a forward pass, on a canvas (H, W) of latent pixels."""
        ...
