"""A scene's content as one hash, and the seed of a scene that has none."""

import hashlib
import json
from typing import Any

from cloisonne.scene.io import json_text as wire
from cloisonne.scene.io.image_ref import FILE, given_background, given_learned, given_mask
from cloisonne.scene.scene import Scene

_GIVEN = {"mask": given_mask, FILE: given_learned}


def content_hash(scene: Scene) -> str:
    """SHA-256 of a scene without its seed and model. Files count by their bytes, wherever they lie.

    Raises:
        ImageError: a file cannot be read.
    """

    def hashed(given: Any, role: str, region: str | None) -> str:
        return hashlib.sha256(_GIVEN.get(role, given_background)(given).read()).hexdigest()

    data = wire.with_pictures(scene.to_dict(), hashed)
    content = {name: value for name, value in data.items() if name not in ("seed", "model")}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def seed_of(name: str, content: str) -> int:
    """The seed, in 32 bits, of a scene in a list that has none of its own: by its name and its content."""
    return int.from_bytes(hashlib.sha256(f"{name}\n{content}".encode()).digest()[:4], "big")
