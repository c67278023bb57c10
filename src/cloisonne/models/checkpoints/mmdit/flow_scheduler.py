"""The ``scheduler_config.json`` of a flow model: every key is honoured, known to have no effect, or refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloisonne.core.flow_schedule import KEYS, REFUSED
from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.json_file import read_json

FLOW_SCHEDULERS = ("FlowMatchEulerDiscreteScheduler",)
"""The schedulers whose noise levels :class:`~cloisonne.core.flow_schedule.FlowSchedule` has."""


def flow_scheduler_of(folder: Path, named: str | None) -> dict[str, Any]:
    """Read the configuration in ``folder/scheduler``, with its class. named: the class in ``model_index.json``.

    Raises CheckpointError for another class, and with its value for a key that would be ignored.
    """
    file = folder / "scheduler" / "scheduler_config.json"
    return checked_flow(read_json(file), file, named)


def checked_flow(config: Mapping[str, Any], file: Path, named: str | None = None) -> dict[str, Any]:
    """Check a configuration; see :func:`flow_scheduler_of`."""
    kind = named or config.get("_class_name")
    if kind not in FLOW_SCHEDULERS:
        raise CheckpointError(
            f'"{file}" is of {kind}, whose noise levels are not those of a flow model; supported are '
            f"{', '.join(FLOW_SCHEDULERS)}."
        )
    for key, value in config.items():
        if not key.startswith("_") and key not in (*KEYS, *REFUSED) and value is not None:
            raise CheckpointError(
                f'"{file}" has {key} "{value}", which is unknown: its effect on the noise levels would be ignored; '
                "remove the key if it does nothing."
            )
    return {**config, "_class_name": kind}
