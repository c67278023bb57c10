"""The learning rate as a function of the step, by diffusers' schedules."""

from collections.abc import Callable

import torch
from diffusers.optimization import get_scheduler

from cloisonne.train.engine.settings import Settings


def rate_of(settings: Settings, steps: int) -> Callable[[int], float]:
    """Step to learning rate, of a run of ``steps``. It keeps no state, so a resumed run needs none."""
    nothing = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(()))], lr=settings.learning_rate)
    warmup = settings.lr_warmup_steps
    scheduler = get_scheduler(settings.lr_scheduler, nothing, num_warmup_steps=warmup, num_training_steps=steps)
    factor = scheduler.lr_lambdas[0]
    return lambda step: settings.learning_rate * factor(step)
