"""Settings of every training run. Each field is a command-line option, named as in diffusers' training scripts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

from cloisonne.errors import TrainingError

WORLD = "world"
"""Value of ``data`` for images of the procedural world."""

LATEST = "latest"
"""Value of ``resume_from_checkpoint`` for the latest checkpoint in the output."""

PRECISIONS = ("no", "fp16", "bf16")
SCHEDULERS = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
DEVICES = ("auto", "cpu", "cuda")

_FREE = {
    *("base", "data", "output", "device", "resume_from_checkpoint", "checkpointing_steps", "checkpoints_total_limit"),
    *("num_train_epochs", "max_train_steps", "dataloader_num_workers", "gradient_checkpointing"),
    *("train_batch_size", "gradient_accumulation_steps", "strict"),
}
"""Settings that a resumed run may change: they do not affect what a step computes."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one run; the annotations are the help texts. The meaning of None is in the help.

    Subclasses add fields and list those that are counts (from 1 on), fractions (``shares``, 0 to 1) and choices.
    """

    counts: ClassVar[tuple[str, ...]] = ()
    shares: ClassVar[tuple[str, ...]] = ()
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    base: Annotated[str, '"builtin", a diffusers folder, a .safetensors file or a hub id of Stable Diffusion 1.x, 2.x.']
    data: Annotated[str, 'Folder of images with COCO annotations, or "world" for the procedural world.']
    output: Annotated[Path, "Folder for the trained model and its checkpoints."]
    strict: Annotated[bool, "Fail on unusable annotations instead of skipping and counting them."] = False
    resolution: Annotated[int | None, "Side of the square training images; default: the native size of the base."] = (
        None
    )
    train_batch_size: Annotated[int, "Images per forward pass and process."] = 4
    gradient_accumulation_steps: Annotated[int, "Forward passes per step."] = 1
    num_train_epochs: Annotated[int, "Passes over the data."] = 1
    max_train_steps: Annotated[int | None, "Total number of steps; overrides the epochs."] = None
    max_train_samples: Annotated[int | None, "Train on a random subset of this many images."] = None
    checkpointing_steps: Annotated[int, "Steps between checkpoints; the last step writes one too."] = 500
    checkpoints_total_limit: Annotated[int | None, "Keep only this many of the newest checkpoints; default: all."] = (
        None
    )
    resume_from_checkpoint: Annotated[str | None, 'Folder of a checkpoint, or "latest".'] = None
    gradient_checkpointing: Annotated[bool, "Save memory at the cost of slower steps."] = False
    learning_rate: Annotated[float, "Learning rate of AdamW; the paper uses 1e-4 with 2048 images per step."] = 1e-4
    lr_scheduler: Annotated[str, f"One of {', '.join(SCHEDULERS)}."] = "constant"
    lr_warmup_steps: Annotated[int, "Warm-up steps; constant has none."] = 500
    adam_beta1: Annotated[float, "Beta 1 of AdamW."] = 0.9
    adam_beta2: Annotated[float, "Beta 2 of AdamW."] = 0.999
    adam_weight_decay: Annotated[float, "Decoupled weight decay."] = 1e-2
    adam_epsilon: Annotated[float, "Epsilon of AdamW."] = 1e-8
    max_grad_norm: Annotated[float, "Maximum gradient norm (clipping)."] = 1.0
    dataloader_num_workers: Annotated[
        int, "Worker processes that load images; 0 loads them in the training process."
    ] = 0
    mixed_precision: Annotated[str, f"One of {', '.join(PRECISIONS)}."] = "no"
    seed: Annotated[int, "Seed of the order, crops, captions and noise."] = 0
    use_ema: Annotated[bool, "Write the exponential moving average (EMA) of the weights."] = False
    ema_decay: Annotated[float, "Decay of the EMA after its warm-up."] = 0.9999
    device: Annotated[str, "auto, cpu or cuda."] = "auto"

    def check(self) -> None:
        """Raise TrainingError for the first invalid value."""
        for name, given, invalid, advice in self._checks():
            if invalid:
                raise TrainingError(f"--{name} is {given}; {advice}.")

    def _checks(self) -> Iterator[tuple[str, Any, bool, str]]:
        """Yield (option, value, whether it is invalid, advice)."""
        for name in (*_COUNTS, *self.counts):
            value = getattr(self, name)
            yield name, value, value is not None and value < 1, "give an integer of at least 1"
        for name in ("lr_warmup_steps", "dataloader_num_workers", "seed"):
            yield name, getattr(self, name), getattr(self, name) < 0, "give an integer of at least 0"
        for name in ("learning_rate", "adam_epsilon", "max_grad_norm"):
            yield name, getattr(self, name), not getattr(self, name) > 0, "give a number above 0"
        for name in ("adam_beta1", "adam_beta2", "ema_decay"):
            yield name, getattr(self, name), not 0 <= getattr(self, name) < 1, "give a number from 0 to below 1"
        for name in self.shares:
            yield name, getattr(self, name), not 0 <= getattr(self, name) <= 1, "give a fraction from 0 to 1"
        yield (
            "adam_weight_decay",
            self.adam_weight_decay,
            not self.adam_weight_decay >= 0,
            "give a number of at least 0",
        )
        for name, choices in {**_CHOICES, **self.choices}.items():
            value = getattr(self, name)
            yield name, f'"{value}"', value not in choices, f"choose one of {', '.join(choices)}"

    def decisive(self) -> dict[str, Any]:
        """The settings that a resumed run must not change."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _FREE}


_COUNTS = (
    *("resolution", "train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_train_steps"),
    *("max_train_samples", "checkpointing_steps", "checkpoints_total_limit"),
)
_CHOICES = {"mixed_precision": PRECISIONS, "lr_scheduler": SCHEDULERS, "device": DEVICES}
