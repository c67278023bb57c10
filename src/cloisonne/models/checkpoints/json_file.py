"""Read a JSON object, without any network library."""

import json
from pathlib import Path
from typing import Any

from cloisonne.errors import CheckpointError


def read_json(path: Path, advice: str = "download it again") -> dict[str, Any]:
    """Read a JSON object. Raises CheckpointError, with the advice, where the file holds none."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CheckpointError(f'"{path.parent}" has no {path.name}; {advice}.') from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f'"{path}" cannot be read as JSON; {advice}.') from error
    return json_object(text, f'"{path}"', advice)


def json_object(text: str, name: str, advice: str = "give a JSON object") -> dict[str, Any]:
    """Parse a JSON object. Raises CheckpointError for any other text, with the name of what holds it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} cannot be read as JSON; {advice}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} is not a JSON object; {advice}.")
    return value
