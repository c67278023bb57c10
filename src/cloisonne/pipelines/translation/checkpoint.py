"""The state of learning a concept, and a folder where it is kept: tensors beside counters, and nothing that runs."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cloisonne.errors import OutputError
from cloisonne.models.model import Model
from cloisonne.scene.conditions.translation_presets import Translating

FALLS = 0.001
"""A loss has fallen if it is lower by this share of itself."""
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(eq=False)
class LearningState:
    """vectors: [N, D], a leaf. rounds: how many were done. best: the lowest loss it was judged by. finished: it no
    longer falls. rows, seconds: what all rounds took, also those before an interruption."""

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
        """The state before the first round."""
        leaf = vectors.requires_grad_(True)
        return cls(leaf, torch.optim.AdamW([leaf], lr=rate), generator)

    def judge(self, loss: float) -> None:
        """Ends learning where the loss has not fallen since it was judged last."""
        self.finished = loss > self.best * (1 - FALLS)
        self.best = min(self.best, loss)


@dataclass(frozen=True)
class LearningFolder:
    """The file of one learning, by the hash of all that decides it: picture, model, settings, word and seed."""

    file: Path

    @classmethod
    def of(cls, folder: Path, known: Tensor, model: Model, translating: Translating, word: str, seed: int) -> Self:
        """The folder is made; OutputError where that cannot be."""
        made = model.record()
        numbers = {
            name: getattr(translating, name) for name in ("vectors", "rounds", "batch", "rate", "l1", "patience")
        }
        about = {"model": made["sha256"], "device": made["device"], "dtype": made["dtype"], "word": word, "seed": seed}
        digest = hashlib.sha256(json.dumps({**about, **numbers}, sort_keys=True).encode())
        digest.update(known.detach().float().cpu().contiguous().numpy().tobytes())
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f'The cache "{folder}" cannot be made ({error.strerror}); choose another.') from None
        return cls(folder / f"concept-{digest.hexdigest()[:32]}.safetensors")

    def restore(self, state: LearningState) -> None:
        """Bring a state to where the file has it; there may be none. OutputError where it cannot be read."""
        if not self.file.exists():
            return
        try:
            with safe_open(str(self.file), "pt") as held:
                found = {name: held.get_tensor(name) for name in ("vectors", "generator", *_MOMENTS)}
                told: dict[str, Any] = json.loads(held.metadata()["learning"])
            state.rounds, state.best = int(told["rounds"]), float(told["best"])
            state.finished = bool(told["finished"])
            state.rows, state.seconds = int(told.get("rows", 0)), float(told.get("seconds", 0))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            raise OutputError(f'"{self.file}" cannot be gone on with; remove it, and learning begins anew.') from None
        with torch.no_grad():
            state.vectors.copy_(found["vectors"])
        groups = state.optimiser.state_dict()["param_groups"]
        moments = {name: found[name] for name in _MOMENTS}
        state.optimiser.load_state_dict({"state": {0: moments}, "param_groups": groups})
        state.generator.set_state(found["generator"])

    def write(self, state: LearningState) -> None:
        """Replace the file at once, so that an interruption leaves the one or the other."""
        moments = state.optimiser.state_dict()["state"][0]
        tensors = {name: moments[name].detach().cpu().contiguous() for name in _MOMENTS}
        tensors |= {"vectors": state.vectors.detach().cpu().contiguous(), "generator": state.generator.get_state()}
        told = {name: getattr(state, name) for name in ("rounds", "best", "finished", "rows", "seconds")}
        part = self.file.with_suffix(f".{os.getpid()}.part")
        try:
            part.write_bytes(save(tensors, {"learning": json.dumps(told)}))
            part.replace(self.file)
        except OSError as error:
            raise OutputError(f'"{self.file}" cannot be written ({error.strerror}); choose another cache.') from None
