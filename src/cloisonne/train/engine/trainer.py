"""The training run: steps, checkpoints and the final result, for any task and any number of processes.

accelerate launch -m cloisonne train reco --base SOURCE ...
"""

import math
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor

from cloisonne.errors import CapabilityError, TrainingError
from cloisonne.train.engine.average import Average
from cloisonne.train.engine.checkpoint import find_checkpoint, read_state, read_tensors, write_checkpoint
from cloisonne.train.engine.examples import Batch, PositionSampler, batches
from cloisonne.train.engine.rates import learning_rate
from cloisonne.train.engine.settings import Settings
from cloisonne.train.engine.task import Maker, Task

REPORT_STEPS = 10

_ONE_COPY_EACH = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)


def train(
    settings: Settings, make: Maker, report: Callable[[str], None] = print, *, seconds: float | None = None
) -> list[float]:
    """Run a training and write its result.

    Args:
        settings: Settings of the run.
        make: Makes the task.
        report: Receives log lines.
        seconds: Time limit. A run that reaches it writes a checkpoint and no result.

    Returns:
        The losses of this process, one per step of this call.

    Raises:
        TrainingError: Invalid settings or data.
        CheckpointError: The base or a checkpoint cannot be used.
        OutputError: The output cannot be written.
        CapabilityError: The device cannot run the training.
    """
    settings.check()
    checkpoint = find_checkpoint(settings)
    accelerator = _accelerator(settings)
    task = make(settings, accelerator.device)
    for warning in task.warnings if accelerator.is_main_process else ():
        report(f"Warning: {warning}")
    run = Run(settings, accelerator, task)
    if checkpoint is not None:
        run.resume(checkpoint)
    try:
        losses = run.train(report, math.inf if seconds is None else seconds)
    except torch.OutOfMemoryError:
        raise CapabilityError(
            f"The device has too little memory for --train_batch_size {settings.train_batch_size}; lower it and raise "
            "--gradient_accumulation_steps, or give --gradient_checkpointing or --lora."
        ) from None
    if accelerator.is_main_process and run.done:
        run.finish(losses)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return losses


def _accelerator(settings: Settings) -> Accelerator:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise CapabilityError('The device "cuda" is not available on this machine; choose "cpu".')
    on_gpu = settings.device != "cpu" and torch.cuda.is_available()
    if settings.mixed_precision == "fp16" and not on_gpu:
        raise CapabilityError("--mixed_precision fp16 needs a GPU; choose bf16 or no.")
    accelerator = Accelerator(
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        mixed_precision=settings.mixed_precision,
        cpu=not on_gpu,
    )
    if accelerator.distributed_type not in _ONE_COPY_EACH:
        raise CapabilityError(
            f"accelerate is configured for {accelerator.distributed_type}, which is not supported; "
            "configure multi-GPU data parallelism, where each process holds the whole model."
        )
    return accelerator


@dataclass(kw_only=True)
class _LastReport:
    """Time and step of the last log line."""

    time: float
    step: int


class Run:
    """One training run in this process: task, optimiser, EMA and current step."""

    def __init__(self, settings: Settings, accelerator: Accelerator, task: Task) -> None:
        self._settings, self._accelerator, self._task = settings, accelerator, task
        self._pictures = settings.train_batch_size * settings.gradient_accumulation_steps * accelerator.num_processes
        epoch = math.ceil(len(task.examples) / self._pictures)
        self.steps = settings.max_train_steps or settings.num_train_epochs * epoch
        self._learning_rate = learning_rate(settings, self.steps)
        self._parameters = task.trained
        optimiser = torch.optim.AdamW(
            self._parameters.values(),
            lr=settings.learning_rate,
            betas=(settings.adam_beta1, settings.adam_beta2),
            weight_decay=settings.adam_weight_decay,
            eps=settings.adam_epsilon,
        )
        self._prepared, self._optimiser = accelerator.prepare(task.student, optimiser)
        self._average = Average(self._parameters, settings.ema_decay) if settings.use_ema else None
        self._decisive = settings.decisive() | {"pictures a step": self._pictures} | dict(task.facts)
        self._step = 0

    @property
    def done(self) -> bool:
        """Whether all steps are done."""
        return self._step == self.steps

    def train(self, report: Callable[[str], None], seconds: float) -> list[float]:
        """Run the remaining steps, at most for ``seconds``. Returns the losses of this process."""
        accelerator, settings = self._accelerator, self._settings
        sampler = PositionSampler(
            settings,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            first=self._step,
            last=self.steps,
        )
        stream = batches(self._task.examples, sampler, settings.dataloader_num_workers, accelerator.device)
        losses: list[Tensor] = []
        last_report = _LastReport(time=time.monotonic(), step=self._step)
        until = last_report.time + seconds
        last = self.done
        while not last:
            losses.append(self._make_step(stream))
            self._step += 1
            last = self.done or time.monotonic() > until
            if self._step % REPORT_STEPS == 0 or last:
                self._report(losses[last_report.step - self._step :], last_report, report)
            if (self._step % settings.checkpointing_steps == 0 or last) and accelerator.is_main_process:
                self._save()
        return [float(loss) for loss in losses]

    def _make_step(self, stream: Iterator[Batch]) -> Tensor:
        """Run one optimiser step. Returns the mean loss of its forward passes, a scalar on the device."""
        accelerator, settings = self._accelerator, self._settings
        rate = self._learning_rate(self._step)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        # Dropout uses the global generator.
        torch.manual_seed(zlib.crc32(f"{settings.seed} {self._step} {accelerator.process_index}".encode()))
        total = torch.zeros((), device=accelerator.device)
        for _ in range(settings.gradient_accumulation_steps):
            batch = next(stream)
            with accelerator.accumulate(self._prepared):
                loss = self._task.loss(self._prepared, batch, self._frozen_autocast())
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(self._parameters.values(), settings.max_grad_norm)
                self._optimiser.step()
                self._optimiser.zero_grad()
            total += loss.detach() / settings.gradient_accumulation_steps
        if self._average is not None:
            self._average.update(self._step)
        return total

    def _frozen_autocast(self) -> Any:
        """Autocast of the frozen VAE: only for bf16, since Stable Diffusion's VAE overflows in float16."""
        return self._accelerator.autocast() if self._settings.mixed_precision == "bf16" else nullcontext()

    def _report(self, losses: list[Tensor], last_report: _LastReport, report: Callable[[str], None]) -> None:
        mean: Any = self._accelerator.reduce(torch.stack(losses).mean(), "mean")
        loss = float(mean)
        if not math.isfinite(loss):
            raise TrainingError(
                f"The loss of step {self._step} is {loss}; lower --learning_rate, or choose --mixed_precision bf16 "
                "or no, and resume from the last checkpoint."
            )
        now = time.monotonic()
        speed = (self._step - last_report.step) * self._pictures / (now - last_report.time)
        last_report.time, last_report.step = now, self._step
        if self._accelerator.is_main_process:
            rate = self._learning_rate(self._step - 1)
            report(
                f"step {self._step} of {self.steps}: loss {loss:.4f}, learning rate {rate:.2e}, {speed:.1f} images/s"
            )

    def _save(self) -> None:
        moments = {
            f"{kind}.{name}": values
            for name, p in self._parameters.items()
            for kind, values in self._optimiser.optimizer.state[p].items()
        }
        groups: dict[str, Any] = {"parameters": self._parameters, "moments": moments}
        if self._average is not None:
            groups["average"] = self._average.values
        scaler = self._accelerator.scaler
        state = {"decisive": self._decisive, "scaler": None if scaler is None else scaler.state_dict()}
        limit = self._settings.checkpoints_total_limit
        write_checkpoint(self._settings.output, self._step, groups, state, limit)

    def resume(self, place: Path) -> None:
        """Restore a checkpoint; the run continues bit-identically."""
        state = read_state(place, self._decisive)
        device = self._accelerator.device
        now = read_tensors(place, "parameters", device)
        with torch.no_grad():
            for name, p in self._parameters.items():
                p.copy_(now[name])
        if self._average is not None:
            self._average.values.update(read_tensors(place, "average", device))
        names = list(self._parameters)
        moments: dict[int, dict[str, Tensor]] = {k: {} for k in range(len(names))}
        for key, values in read_tensors(place, "moments", torch.device("cpu")).items():
            kind, _, name = key.partition(".")
            moments[names.index(name)][kind] = values
        whole = {"state": moments, "param_groups": self._optimiser.optimizer.state_dict()["param_groups"]}
        self._optimiser.optimizer.load_state_dict(whole)
        if self._accelerator.scaler is not None and state["scaler"] is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        self._step = state["step"]

    def finish(self, losses: list[float]) -> None:
        """Write the result, with the EMA weights if there are any."""
        if self._average is not None:
            self._average.copy_to_parameters()
        self._task.write(
            {
                "steps": self._step,
                "pictures": self._step * self._pictures,
                "loss": losses[-1] if losses else None,
                "settings": self._decisive,
                "warnings": list(self._task.warnings),
            }
        )
