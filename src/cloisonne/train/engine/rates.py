"""Learning rate schedules of diffusers as functions of the step."""

from collections.abc import Callable

import torch
from diffusers.optimization import get_scheduler

from cloisonne.train.engine.settings import Settings


def learning_rate(settings: Settings, steps: int) -> Callable[[int], float]:
    """Map a step to its learning rate, for a run of ``steps``. It has no state to save."""
    placeholder = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(()))], lr=settings.learning_rate)
    warmup = settings.lr_warmup_steps
    scheduler = get_scheduler(settings.lr_scheduler, placeholder, num_warmup_steps=warmup, num_training_steps=steps)
    factor = scheduler.lr_lambdas[0]
    return lambda step: settings.learning_rate * factor(step)
