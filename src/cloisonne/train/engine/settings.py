"""What every training run is asked to do: one field, one flag, with diffusers' names and our additions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

from cloisonne.errors import TrainingError

WORLD = "world"
"""In place of a folder of pictures: pictures of the procedural world."""

LATEST = "latest"
"""In place of a checkpoint's folder: the last one of the output."""

PRECISIONS = ("no", "fp16", "bf16")
SCHEDULERS = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
DEVICES = ("auto", "cpu", "cuda")

_FREE = {
    *("base", "data", "output", "device", "resume_from_checkpoint", "checkpointing_steps", "checkpoints_total_limit"),
    *("num_train_epochs", "max_train_steps", "dataloader_num_workers", "gradient_checkpointing"),
    *("train_batch_size", "gradient_accumulation_steps", "strict"),
}
"""What may differ when a run is resumed: it decides how far and how, not what a step computes."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one run. None means what the help says, which for some depends on the base.

    Each kind of training adds fields of its own, and names those of them that are counts, shares and choices.
    """

    counts: ClassVar[tuple[str, ...]] = ()
    shares: ClassVar[tuple[str, ...]] = ()
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    base: Annotated[str, '"builtin", a diffusers folder, a .safetensors file or a hub id of Stable Diffusion 1.x, 2.x.']
    data: Annotated[str, 'Folder of pictures with COCO annotations, or "world" for the procedural world.']
    output: Annotated[Path, "Folder for what is trained and its checkpoints."]
    strict: Annotated[bool, "Refuse annotations that cannot be used, which are else left out and counted."] = False
    resolution: Annotated[int | None, "Side of the square pictures; the base's own if left out."] = None
    train_batch_size: Annotated[int, "Pictures of one forward pass on one process."] = 4
    gradient_accumulation_steps: Annotated[int, "Forward passes of one step."] = 1
    num_train_epochs: Annotated[int, "Passes over the data."] = 1
    max_train_steps: Annotated[int | None, "Steps altogether, in place of epochs."] = None
    max_train_samples: Annotated[int | None, "Train on so many of the pictures, drawn by the seed."] = None
    checkpointing_steps: Annotated[int, "Steps from one checkpoint to the next; the end writes one too."] = 500
    checkpoints_total_limit: Annotated[int | None, "Keep so many checkpoints, the newest; all if left out."] = None
    resume_from_checkpoint: Annotated[str | None, 'Folder of a checkpoint, or "latest".'] = None
    gradient_checkpointing: Annotated[bool, "Less memory for a slower step."] = False
    learning_rate: Annotated[float, "Of AdamW; the paper's is 1e-4 with 2048 pictures a step."] = 1e-4
    lr_scheduler: Annotated[str, f"One of {', '.join(SCHEDULERS)}."] = "constant"
    lr_warmup_steps: Annotated[int, "Steps in which the rate rises; constant has none."] = 500
    adam_beta1: Annotated[float, "Decay of the gradients' mean."] = 0.9
    adam_beta2: Annotated[float, "Decay of the squared gradients' mean."] = 0.999
    adam_weight_decay: Annotated[float, "Decoupled weight decay."] = 1e-2
    adam_epsilon: Annotated[float, "Added to the denominator."] = 1e-8
    max_grad_norm: Annotated[float, "Gradients are clipped to this norm."] = 1.0
    dataloader_num_workers: Annotated[int, "Processes that read pictures; 0 reads them in the training process."] = 0
    mixed_precision: Annotated[str, f"One of {', '.join(PRECISIONS)}."] = "no"
    seed: Annotated[int, "Decides order, crops, words and noise."] = 0
    use_ema: Annotated[bool, "Write the moving average of the weights."] = False
    ema_decay: Annotated[float, "Of the moving average, once it is warm."] = 0.9999
    device: Annotated[str, "auto, cpu or cuda."] = "auto"

    def check(self) -> None:
        """Raise TrainingError for the first value that nothing can be trained with."""
        for name, given, wrong, do in self._faults():
            if wrong:
                raise TrainingError(f"--{name} is {given}; {do}.")

    def _faults(self) -> Iterator[tuple[str, Any, bool, str]]:
        for name in (*_COUNTS, *self.counts):
            value = getattr(self, name)
            yield name, value, value is not None and value < 1, "give a whole number from 1 on"
        for name in ("lr_warmup_steps", "dataloader_num_workers", "seed"):
            yield name, getattr(self, name), getattr(self, name) < 0, "give a whole number from 0 on"
        for name in ("learning_rate", "adam_epsilon", "max_grad_norm"):
            yield name, getattr(self, name), not getattr(self, name) > 0, "give a number above 0"
        for name in ("adam_beta1", "adam_beta2", "ema_decay"):
            yield name, getattr(self, name), not 0 <= getattr(self, name) < 1, "give a number from 0 to below 1"
        for name in self.shares:
            yield name, getattr(self, name), not 0 <= getattr(self, name) <= 1, "give a share from 0 to 1"
        yield "adam_weight_decay", self.adam_weight_decay, not self.adam_weight_decay >= 0, "give a number from 0 on"
        for name, choices in {**_CHOICES, **self.choices}.items():
            value = getattr(self, name)
            yield name, f'"{value}"', value not in choices, f"choose one of {', '.join(choices)}"

    def decisive(self) -> dict[str, Any]:
        """The values that a resumed run must share with the one it continues."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _FREE}


_COUNTS = (
    *("resolution", "train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_train_steps"),
    *("max_train_samples", "checkpointing_steps", "checkpoints_total_limit"),
)
_CHOICES = {"mixed_precision": PRECISIONS, "lr_scheduler": SCHEDULERS, "device": DEVICES}
