"""Checkpoints by their hub id, from the local cache or downloaded once. Only safetensors, JSON and text files."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from cloisonne.errors import CheckpointError

MEMBERS = (
    *("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"),
    *("tokenizer", "tokenizer_2", "tokenizer_3", "image_encoder", "scheduler"),
)
PATTERNS = [
    "model_index.json",
    *(f"{member}/*{kind}" for member in MEMBERS for kind in (".json", ".txt", ".safetensors")),
]
"""The files that are downloaded."""
OTHER_FORMATS = ["*openvino*", "*onnx*"]
IGNORED = ["*.fp16.*", "*.non_ema.*", "*fp16*", *OTHER_FORMATS]


def patterns(variant: str | None, without: Collection[str] = ()) -> dict[str, list[str]]:
    """The patterns of files to download and to ignore; with a variant, its weights instead of the plain ones.

    without: members of which no weights are downloaded.
    """
    left_out = [f"{member}/*.safetensors" for member in without]
    if variant is None:
        return {"allow_patterns": PATTERNS, "ignore_patterns": [*IGNORED, *left_out]}
    weights = (f"*.{variant}.safetensors", f"*.{variant}-*.safetensors")
    plain = [pattern for pattern in PATTERNS if not pattern.endswith(".safetensors")]
    own = [*plain, *(f"{member}/{name}" for member in MEMBERS for name in weights)]
    return {"allow_patterns": own, "ignore_patterns": [*OTHER_FORMATS, *left_out]}


def snapshot(repo_id: str, variant: str | None = None, *, without: Collection[str] = ()) -> Path:
    """The local folder of a repository, downloaded if needed. Raises CheckpointError where that fails.

    variant: of its weights, such as "fp16"; None means the plain ones. without: members whose weights are not needed.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    wanted: dict[str, Any] = patterns(variant, without)
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
            f'There is no folder "{repo_id}", and the hub has no such repository; correct the name, or {advice}.'
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise CheckpointError(
            f'There is no folder "{repo_id}", the local cache of the hub does not hold it, and the hub cannot be '
            f"reached; {advice}."
        ) from error
