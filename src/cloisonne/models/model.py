"""A loaded model: everything that a scene needs of the networks."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cloisonne.core.noise_schedule import NoiseSchedule
from cloisonne.models.checkpoints.parts import Family
from cloisonne.models.spec import NetSpec
from cloisonne.models.text.encoder import NoText, TextEncoder
from cloisonne.models.text.vocabulary import Vocabulary
from cloisonne.models.unet.denoiser import DiffusersNet
from cloisonne.models.vae import Vae

if TYPE_CHECKING:
    # Each of these imports its network's library, and most models have only some of them.
    from cloisonne.models.adapters.clipseg import Segmenter
    from cloisonne.models.adapters.coadapter import CoAdapterFuser
    from cloisonne.models.adapters.controlnet import ControlNet
    from cloisonne.models.adapters.ip_adapter import IpAdapter
    from cloisonne.models.adapters.paint_by_example import ExemplarEngine
    from cloisonne.models.adapters.t2i_adapter import Adapter


@dataclass(frozen=True, kw_only=True)
class Native:
    """The values a scene takes where it leaves them out; width and height in pixels.

    similarity: of exemplars; the paper's own value is 5 (arXiv 2211.13227, section 3.3).
    """

    width: int
    height: int
    steps: int
    guidance: float
    sampler: str
    method: str
    similarity: float = 5.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """Networks that belong together, on one device.

    name: how pictures name it: "builtin", or the folder's or file's own name. family: the line of checkpoints it is of.
    device: where it works; with offloading, where a network is moved to while it is asked. files: what it was loaded
    from, and ``options`` what was added to that. exemplar: the network that paints exemplars, if any; ip_adapter:
    what shows them to ``net`` instead. adapters: T2I-Adapters by kind of control, and a fuser by which they hear of one
    another, if any; controlnets: ControlNets, by further kinds. segmenter: gives what finds words in pictures, read
    when it is first asked for. clip: None, or the bound that the scheduler puts on estimates of x0. warnings: what the
    files hold that is not honoured, one sentence each; every report repeats them. notes: what ``explain`` adds on how
    they were read. scheduler: the class of scheduler that the files name, None where they name none. vocabulary: the
    words it was trained with, where its folder lists them.
    """

    name: str
    family: Family
    net: DiffusersNet
    vae: Vae
    text: TextEncoder | NoText
    schedule: NoiseSchedule
    clip: float | None
    native: Native
    device: torch.device
    dtype: torch.dtype
    files: tuple[Path, ...]
    options: tuple[str, ...] = ()
    exemplar: "ExemplarEngine | None" = None
    ip_adapter: "IpAdapter | None" = None
    adapters: "Mapping[str, Adapter]" = field(default_factory=dict)
    controlnets: "Mapping[str, ControlNet]" = field(default_factory=dict)
    fuser: "CoAdapterFuser | None" = None
    segmenter: "Callable[[], Segmenter] | None" = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    scheduler: str | None = None
    vocabulary: Vocabulary | None = None

    @property
    def image_only(self) -> bool:
        """Whether it hears no text at all, only exemplars."""
        return self.family == "pbe"

    @property
    def spec(self) -> NetSpec:
        """The facts about its network."""
        return self.net.spec

    @cached_property
    def hash(self) -> str:
        """SHA-256 over the files it was loaded from, read when first asked for: equal hashes draw equal pictures."""
        total = hashlib.sha256()
        for file in self.files:
            total.update(f"{file.parent.name}/{file.name}\n".encode())
            with file.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        total.update("".join(f"{option}\n" for option in self.options).encode())
        return total.hexdigest()

    @property
    def parameters(self) -> int:
        """Numbers in all its networks."""
        further: tuple[Any, ...] = (self.exemplar.net.unet, self.exemplar.encoder) if self.exemplar else ()
        if self.ip_adapter is not None:
            further = (*further, self.ip_adapter.vision, self.ip_adapter.projection)
        pictures = sum(weight.numel() for pair in self.net.image_prompts.values() for weight in pair)
        loras = sum(lora.parameters for lora in self.net.loras.values())
        controls = (control.module for control in (*self.adapters.values(), *self.controlnets.values()))
        modules = {self.net.unet, self.vae.module, *self.text.modules, *further, *controls}
        fuser = sum(tensor.numel() for tensor in self.fuser.tensors.values()) if self.fuser else 0
        own = sum(parameter.numel() for module in modules for parameter in module.parameters())
        return own + pictures + loras + fuser

    @property
    def takes_exemplars(self) -> bool:
        """Whether anything of it honours exemplars."""
        return self.exemplar is not None or self.ip_adapter is not None

    def record(self) -> Mapping[str, Any]:
        """What a report or a picture says of it; no paths."""
        chip = f" ({torch.cuda.get_device_name(self.device)})" if self.device.type == "cuda" else ""
        return {
            "name": self.name,
            "sha256": self.hash,
            "device": f"{self.device}{chip}",
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def __repr__(self) -> str:
        size = f"{self.native.width} x {self.native.height}"
        millions = self.parameters / 1e6
        return f'Model "{self.name}": {size} pixels, {millions:.1f} M parameters, {self.dtype} on {self.device}'
