"""Checkpoints of learning a concept: a safetensors file of tensors and counters."""

import hashlib
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cloisonne.errors import OutputError
from cloisonne.models.model import Model
from cloisonne.models.text.learned_concept import Concept
from cloisonne.scene.conditions.translation_presets import Translating

FALLS = 0.001
"""A loss has fallen if it is lower by at least this fraction of the best."""
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(eq=False)
class LearningState:
    """State of the training loop.

    vectors: [N, D], a leaf. rounds: training steps done. best: the lowest evaluated loss. finished: the loss no longer
    falls. rows, seconds: cost of all training steps, those before an interruption included.
    """

    vectors: Tensor
    optimiser: torch.optim.AdamW
    generator: torch.Generator
    rounds: int = 0
    best: float = float("inf")
    finished: bool = False
    rows: int = 0
    seconds: float = 0.0

    @classmethod
    def begin(cls, vectors: Tensor, rate: float, generator: torch.Generator) -> Self:
        """The state before the first training step."""
        leaf = vectors.requires_grad_(True)
        return cls(leaf, torch.optim.AdamW([leaf], lr=rate), generator)

    @property
    def concept(self) -> Concept:
        """The concept learned so far."""
        return Concept(self.vectors.detach())

    def judge(self, loss: float) -> None:
        """Record an evaluated loss; set ``finished`` if it is not below the best."""
        self.finished = loss > self.best * (1 - FALLS)
        self.best = min(self.best, loss)


def learning_digest(known: Tensor, model: Model, translating: Translating, word: str, seed: int) -> str:
    """The hash of what decides a concept: latents of its image, model, settings, word, seed."""
    made = model.record()
    numbers = {name: getattr(translating, name) for name in ("vectors", "rounds", "batch", "rate", "l1", "patience")}
    about = {"model": made["sha256"], "device": made["device"], "dtype": made["dtype"], "word": word, "seed": seed}
    digest = hashlib.sha256(json.dumps({**about, **numbers}, sort_keys=True).encode())
    digest.update(known.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class LearningFolder:
    """A checkpoint file, named by its :func:`learning_digest`."""

    file: Path

    @classmethod
    def of(cls, folder: Path, known: Tensor, model: Model, translating: Translating, word: str, seed: int) -> Self:
        """Make the folder. Raises OutputError where that fails."""
        digest = learning_digest(known, model, translating, word, seed)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f'The cache "{folder}" cannot be made ({error.strerror}); choose another.') from None
        return cls(folder / f"concept-{digest}.safetensors")

    def restore(self, state: LearningState) -> None:
        """Load the file into a state, if there is one. Raises OutputError where it cannot be read."""
        if not self.file.exists():
            return
        try:
            with safe_open(str(self.file), "pt") as file:
                found = {name: file.get_tensor(name) for name in ("vectors", "generator", *_MOMENTS)}
                counters: dict[str, Any] = json.loads(file.metadata()["learning"])
            state.rounds, state.best = int(counters["rounds"]), float(counters["best"])
            state.finished = bool(counters["finished"])
            state.rows, state.seconds = int(counters.get("rows", 0)), float(counters.get("seconds", 0))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            raise OutputError(f'"{self.file}" cannot be resumed; remove it, and learning starts again.') from None
        with torch.no_grad():
            state.vectors.copy_(found["vectors"])
        groups = state.optimiser.state_dict()["param_groups"]
        moments = {name: found[name] for name in _MOMENTS}
        state.optimiser.load_state_dict({"state": {0: moments}, "param_groups": groups})
        state.generator.set_state(found["generator"])

    def write(self, state: LearningState) -> None:
        """Replace the file atomically, so that an interruption leaves either the old or the new one."""
        moments = state.optimiser.state_dict()["state"][0]
        tensors = {name: moments[name].detach().cpu().contiguous() for name in _MOMENTS}
        tensors |= {"vectors": state.vectors.detach().cpu().contiguous(), "generator": state.generator.get_state()}
        counters = {name: getattr(state, name) for name in ("rounds", "best", "finished", "rows", "seconds")}
        part = self.file.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        try:
            part.write_bytes(save(tensors, {"learning": json.dumps(counters)}))
            part.replace(self.file)
        except OSError as error:
            raise OutputError(f'"{self.file}" cannot be written ({error.strerror}); choose another cache.') from None
