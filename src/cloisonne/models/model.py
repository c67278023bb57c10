"""A loaded model: the networks and values that a scene needs."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import torch

from cloisonne.core.noise_schedule import NoiseSchedule
from cloisonne.errors import CapabilityError
from cloisonne.models.checkpoints.file_hash import sha256_of
from cloisonne.models.denoiser import Denoiser
from cloisonne.models.model_spec import ModelSpec
from cloisonne.models.options import CompileMode, LoadOptions, Offload, PathText, Precision, Resampling
from cloisonne.models.spec import NetSpec
from cloisonne.models.text.encoder import TextEncoder
from cloisonne.models.text.no_text import NoText
from cloisonne.models.text.vocabulary import Vocabulary
from cloisonne.models.vae import Vae

if TYPE_CHECKING:
    # Each of these imports its network's library, and most models use only some of them.
    from cloisonne.models.adapters.block_controlnet import BlockControlNet
    from cloisonne.models.adapters.clipseg import Segmenter
    from cloisonne.models.adapters.coadapter import CoAdapterFuser
    from cloisonne.models.adapters.controlnet import ControlNet
    from cloisonne.models.adapters.ip_adapter import IpAdapter
    from cloisonne.models.adapters.paint_by_example import ExemplarEngine
    from cloisonne.models.adapters.t2i_adapter import Adapter


@dataclass(frozen=True, kw_only=True)
class Native:
    """A model's defaults for a scene; width and height in pixels.

    similarity: guidance scale of exemplars; the paper uses 5 (arXiv 2211.13227, section 3.3). spacing: of the steps,
    where a network was distilled for one; "default" is the schedule's own. conditional_controls: whether controls are
    left out of the null branch.
    """

    width: int
    height: int
    steps: int
    guidance: float
    sampler: str
    method: str
    similarity: float = 5.0
    spacing: str = "default"
    conditional_controls: bool = False


@dataclass(frozen=True, eq=False)
class Origin:
    """How a model was loaded: its spec with absolute paths, and a function that makes the model of another spec.

    The function reads only what the model does not have. from_files: whether ``load`` makes the model of the spec.
    """

    spec: ModelSpec
    make: "Callable[[ModelSpec], Model]"
    from_files: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A diffusion network, its text encoder, autoencoder, noise schedule and add-ons, on one device.

    It does not change: the ``with_*`` methods and :meth:`to` return another model, equal to what ``load`` makes of the
    same options, which shares the unchanged weights with this one.

    name: "builtin", or the name of the folder or file; records of images repeat it. family: a name of ``FAMILIES``.
    device: where the networks run; with offloading, where a network is moved to while it runs. files: the files it was
    loaded from. options: what changes these, such as fused LoRAs; part of the hash. exemplar: the network for exemplars
    (Paint by Example), if any. ip_adapter: encodes exemplars for ``net`` instead. adapters: T2I-Adapters by kind of
    control. fuser: combines T2I-Adapters (CoAdapter), if any. controlnets: ControlNets by kind of control. segmenter:
    returns CLIPSeg, reading it at the first call. clip: None, or the scheduler's bound on estimates of x0. warnings:
    what the files hold that is not honoured, one sentence each; every report repeats them. notes: what ``explain`` adds
    about how they were read. scheduler: the class that the files name, None where they name none. vocabulary: the words
    it was trained with, where its folder lists them. origin: None for a model that was not loaded. digest: of
    weights that were read from no file, part of the hash. compile: the mode in which the blocks of ``net`` are
    compiled, None where they are not.
    """

    name: str
    family: str
    net: Denoiser
    vae: Vae
    text: TextEncoder
    schedule: NoiseSchedule
    clip: float | None
    native: Native
    device: torch.device
    dtype: torch.dtype
    files: tuple[Path, ...]
    options: tuple[str, ...] = ()
    exemplar: "ExemplarEngine | None" = None
    ip_adapter: "IpAdapter | None" = None
    adapters: "Mapping[str, Adapter]" = field(default_factory=dict[str, "Adapter"])
    controlnets: "Mapping[str, ControlNet | BlockControlNet]" = field(
        default_factory=dict[str, "ControlNet | BlockControlNet"]
    )
    fuser: "CoAdapterFuser | None" = None
    segmenter: "Callable[[], Segmenter] | None" = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    scheduler: str | None = None
    vocabulary: Vocabulary | None = None
    origin: Origin | None = None
    digest: "Callable[[], str] | None" = None
    compile: CompileMode | None = None

    @property
    def model_spec(self) -> ModelSpec:
        """The value from which ``load`` makes this model again, with absolute paths.

        Raises:
            CapabilityError: the model was not loaded from files.
        """
        if not self._origin.from_files:
            raise CapabilityError(
                f'"{self.name}" was made from a pipeline in this process, so no other process can load it; give the '
                "pipeline's folder or hub id."
            )
        return self._origin.spec

    def with_lora(self, file: PathText, scale: float = 1.0) -> "Model":
        """The model with a LoRA of any trainer fused into its weights, after those that it has.

        Args:
            file: the LoRA.
            scale: factor of its change.

        Raises:
            CheckpointError: the file is no LoRA, or does not fit the model.
            CapabilityError: the model takes no LoRAs.
        """
        return self._with(lora=(file, scale))

    def with_regional_lora(self, name: str, file: PathText) -> "Model":
        """The model with a LoRA that applies only in the regions whose ``lora`` names it.

        Args:
            name: for regions; a LoRA of this name is replaced.
            file: the LoRA.

        Raises:
            CheckpointError: the file is no LoRA, does not fit the model, or cannot apply by region.
            CapabilityError: the model takes no LoRAs.
        """
        return self._with(regional_lora={name: file})

    def with_embedding(self, file: PathText) -> "Model":
        """The model with the learned words of a textual inversion's file.

        Raises:
            CheckpointError: the file is no embedding, does not fit the model, or its word exists already.
            CapabilityError: the model takes no text.
        """
        return self._with(embeddings=file)

    def with_adapter(self, kind: str, path: PathText) -> "Model":
        """The model with a T2I-Adapter or ControlNet for a kind of control, in place of any that it has.

        Raises:
            CheckpointError: the path is no adapter, or it does not fit the model.
            CapabilityError: there is no such kind, or the model takes no adapters.
        """
        return self._with(adapters={kind: path})

    def with_fuser(self, file: PathText) -> "Model":
        """The model with a CoAdapter's fuser, which combines its T2I-Adapters.

        Raises:
            CheckpointError: the file is no fuser, or does not fit the adapters.
            CapabilityError: the model has no T2I-Adapters.
        """
        return self._with(fuser=file)

    def with_exemplar(
        self, path: PathText, image_encoder: PathText | None = None, mask_resampling: Resampling = "bilinear"
    ) -> "Model":
        """The model with a network for exemplars, in place of any that it has.

        Args:
            path: a folder of Paint by Example, or the file of an IP-Adapter.
            image_encoder: the folder of the IP-Adapter's image encoder; None means next to its file.
            mask_resampling: how Paint by Example's masks are resized to the latents.

        Raises:
            CheckpointError: the path is neither, or it does not fit the model.
            CapabilityError: an option does not apply.
        """
        return self._with(exemplar=path, image_encoder=image_encoder, mask_resampling=mask_resampling)

    def with_segmenter(self, folder: PathText) -> "Model":
        """The model with a CLIPSeg, which MRGD's losses use. Raises CheckpointError where the folder holds none."""
        return self._with(segmenter=folder)

    def to(
        self,
        device: "str | torch.device | None" = None,
        dtype: "Precision | torch.dtype | None" = None,
        *,
        offload: Offload | None = None,
    ) -> "Model":
        """The model in another place or precision, loaded from its files again; None keeps what ``model_spec`` has.

        Raises:
            CapabilityError: the device cannot be used.
            CheckpointError: a file is no longer there.
        """
        changes: dict[str, Any] = {"device": device, "dtype": dtype, "offload": offload}
        return self._with(**{name: value for name, value in changes.items() if value is not None})

    def _with(self, **options: Unpack[LoadOptions]) -> "Model":
        spec = self._origin.spec.with_options(**options)
        return self if spec == self._origin.spec else self._origin.make(spec)

    @property
    def _origin(self) -> Origin:
        if self.origin is None:
            raise CapabilityError(
                f'"{self.name}" was not loaded from files, so it has no spec and takes no add-ons; load a model.'
            )
        return self.origin

    @property
    def image_only(self) -> bool:
        """Whether it takes no text, only exemplars (Paint by Example)."""
        return isinstance(self.text, NoText)

    @property
    def spec(self) -> NetSpec:
        """Latent space, inputs and geometry of its network."""
        return self.net.spec

    @cached_property
    def hash(self) -> str:
        """SHA-256 over its files and options, computed at the first use: models of equal hash generate equal images."""
        total = hashlib.sha256()
        for file in self.files:
            total.update(f"{file.parent.name}/{file.name}\n".encode())
            total.update(bytes.fromhex(sha256_of(file)))
        total.update("".join(f"{option}\n" for option in self.options).encode())
        if self.digest is not None:
            total.update(self.digest().encode())
        return total.hexdigest()

    @property
    def parameters(self) -> int:
        """The number of parameters of all its networks."""
        exemplar = (*self.exemplar.net.modules, self.exemplar.encoder) if self.exemplar else ()
        controls = (control.module for control in (*self.adapters.values(), *self.controlnets.values()))
        modules: set[Any] = {*self.net.modules, self.vae.module, *self.text.modules, *exemplar, *controls}
        own = sum(parameter.numel() for module in modules for parameter in module.parameters())
        ip_adapter = self.ip_adapter.parameters if self.ip_adapter is not None else 0
        loras = sum(lora.parameters for lora in self.net.loras.values())
        fuser = sum(tensor.numel() for tensor in self.fuser.tensors.values()) if self.fuser else 0
        return own + ip_adapter + loras + fuser

    @property
    def takes_exemplars(self) -> bool:
        """Whether it has a network or adapter for exemplars."""
        return self.exemplar is not None or self.ip_adapter is not None

    def record(self) -> Mapping[str, Any]:
        """Its entry in a report or an image's metadata; without paths."""
        chip = f" ({torch.cuda.get_device_name(self.device)})" if self.device.type == "cuda" else ""
        return {
            "name": self.name,
            "sha256": self.hash,
            "device": f"{self.device}{chip}",
            "dtype": str(self.dtype).removeprefix("torch."),
            **({} if self.compile is None else {"compile": self.compile}),
        }

    def __repr__(self) -> str:
        size = f"{self.native.width} x {self.native.height}"
        millions = self.parameters / 1e6
        return f'Model "{self.name}": {size} pixels, {millions:.1f} M parameters, {self.dtype} on {self.device}'
