"""The networks of a checkpoint as read from its files, before they are assembled to a model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from transformers import CLIPTextModel, CLIPTextModelWithProjection, Qwen3Model, T5EncoderModel

from cloisonne.models.checkpoints.files import quiet

if TYPE_CHECKING:
    from cloisonne.models.model import Native


@dataclass(frozen=True, eq=False)
class TextPart:
    """A text encoder and its tokenizer. Stable Diffusion XL has two, the second one with a projection.

    module: a CLIPTextModel, a CLIPTextModelWithProjection, a T5EncoderModel or a Qwen3Model. tokenizer: of
    transformers, its own.
    learned: the token ids of added words, by word.
    """

    module: CLIPTextModel | CLIPTextModelWithProjection | T5EncoderModel | Qwen3Model
    tokenizer: Any
    learned: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """The parts of a checkpoint, whatever its layout.

    family: its name in ``FAMILIES``. network: the denoising network, a UNet2DConditionModel or a transformer of
    diffusers. texts: one, or several in the order of the pipeline's members. native: its usual values, where they
    differ from the family's. scheduler: a diffusers
    ``scheduler_config.json``, without a class where the files name none. zeros_for_empty: an empty negative prompt is
    zeros in place of encoded text (XL's ``force_zeros_for_empty_prompt``). text_options: further arguments of the
    family's text encoder. files: all that determine the model's outputs. notes, warnings: as in Model.
    """

    family: str
    network: Any
    vae: AutoencoderKL | AutoencoderKLFlux2
    texts: tuple[TextPart, ...]
    scheduler: Mapping[str, Any]
    zeros_for_empty: bool = False
    text_options: Mapping[str, Any] = field(default_factory=dict)
    native: "Native | None" = None
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def save(self, folder: Path) -> None:
        """Write a diffusers pipeline folder of a UNet: safetensors and JSON, in the dtype of the networks."""
        index: dict[str, Any] = {
            "_class_name": _PIPELINES[len(self.texts), self.inpaints],
            "_diffusers_version": diffusers.__version__,
        }
        if len(self.texts) > 1:
            index["force_zeros_for_empty_prompt"] = self.zeros_for_empty
        named: dict[str, Any] = {"unet": self.network, "vae": self.vae}
        for number, text in zip(("", "_2"), self.texts, strict=False):
            named |= {f"text_encoder{number}": text.module, f"tokenizer{number}": text.tokenizer}
        for name, part in named.items():
            with quiet():
                part.save_pretrained(folder / name)
            library = "transformers" if name.startswith(("text_encoder", "tokenizer")) else "diffusers"
            index[name] = [library, type(part).__name__]
        scheduler = {"_class_name": "DDIMScheduler", **self.scheduler}
        index["scheduler"] = ["diffusers", scheduler["_class_name"]]
        _write(folder / "scheduler" / "scheduler_config.json", scheduler)
        _write(folder / "model_index.json", index)

    @property
    def inpaints(self) -> bool:
        """Whether the UNet also takes a mask and the masked image's latents: 2C + 1 input channels."""
        return self.network.config["in_channels"] == 2 * self.network.config["out_channels"] + 1


_PIPELINES = {
    (1, False): "StableDiffusionPipeline",
    (1, True): "StableDiffusionInpaintPipeline",
    (2, False): "StableDiffusionXLPipeline",
    (2, True): "StableDiffusionXLInpaintPipeline",
}


def _write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
