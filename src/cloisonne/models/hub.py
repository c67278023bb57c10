"""Checkpoints by their hub id: from the local cache, or downloaded once. Safetensors and JSON only."""

from pathlib import Path
from typing import Any

from cloisonne.errors import CheckpointError

MEMBERS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "image_encoder", "scheduler")
PATTERNS = [
    "model_index.json",
    *(f"{member}/*{kind}" for member in MEMBERS for kind in (".json", ".txt", ".safetensors")),
]
"""What is fetched of a repository; halves of it in other precisions are left."""
LEFT = ["*.fp16.*", "*.non_ema.*", "*fp16*", "*openvino*", "*onnx*"]


def snapshot(repo_id: str) -> Path:
    """The folder of a repository, from the local cache or the hub. Raises CheckpointError where it is in neither."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    wanted: dict[str, Any] = {"allow_patterns": PATTERNS, "ignore_patterns": LEFT}
    try:
        return Path(snapshot_download(repo_id, local_files_only=True, **wanted))
    except LocalEntryNotFoundError:
        pass
    advice = "download its folder by other means and give the folder's path"
    try:
        return Path(snapshot_download(repo_id, **wanted))
    except GatedRepoError as error:
        raise CheckpointError(
            f'"{repo_id}" is gated: accept its terms on the hub and log in with "hf auth login", or {advice}.'
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f'There is no folder "{repo_id}", and the hub knows no such repository; correct the name, or {advice}.'
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise CheckpointError(
            f'There is no folder "{repo_id}", the local cache of the hub does not hold it, and the hub cannot be '
            f"reached; {advice}."
        ) from error
