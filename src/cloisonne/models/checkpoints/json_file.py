"""Read a JSON object, without any network library."""

import json
from pathlib import Path
from typing import Any

from cloisonne.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises CheckpointError where the file holds none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f'"{path.parent}" has no {path.name}; download it again.') from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f'"{path}" cannot be read as JSON; download it again.') from error
    if not isinstance(value, dict):
        raise CheckpointError(f'"{path}" is not a JSON object; download it again.')
    return value
