"""Writes the schema of the HTTP API that the page's types are made from: page/openapi.json.

python scripts/openapi.py
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from cloisonne.studio.app import create_app
from cloisonne.studio.settings import Settings, models_of

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "page" / "openapi.json"


def schema() -> str:
    """The schema as JSON text."""
    with tempfile.TemporaryDirectory() as folder:
        gate: Any = create_app(Settings(data=Path(folder), models=models_of(["builtin"]), token="none is needed here"))
        return json.dumps(gate.app.openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema(), "utf-8")
    print(FILE)
