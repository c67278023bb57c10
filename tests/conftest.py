"""Every test runs on one thread, from fixed seeds, without a network and without a clock.

Networks for tests are real and tiny: folders in the layout of the built-in family, and in that of Stable Diffusion.
"""

import json
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from cloisonne.models.model import Model

# Read when torch and the hub's client are first imported, by us or by a command that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

# No deadline: the machine may be busy. Derandomized: a failure comes back on the next run and on every machine.
settings.register_profile("cloisonne", deadline=None, derandomize=True)
settings.load_profile("cloisonne")


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Seed every global generator; torch only where a test has imported it, since its import takes seconds."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
        torch.manual_seed(0)


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is also the current one, for what reads or writes relative paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


WORDS = """
a an on in the beach night sky doughnut cat dog car red orange blue stars small large square left right top
"""
"""Words that are one token for the tiny tokenizer; others are spelt."""


@pytest.fixture(scope="session")
def tiny_family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the built-in family's: 64 x 64 pixels on 8 x 8 latents, position tokens, v-prediction."""
    return write_checkpoint(
        tmp_path_factory.mktemp("family"),
        bins=16,
        vae={"in_channels": 48, "out_channels": 48, "block_out_channels": (8, 8), "shift_factor": 0.1},
        scheduler={"prediction_type": "v_prediction", "timestep_spacing": "trailing"},
        native={"width": 64, "height": 64, "steps": 3, "guidance": 4.0, "sampler": "ddim", "method": "reco"},
    )


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like Stable Diffusion 1.x: a vae on plain RGB, noise prediction, no position tokens."""
    return write_checkpoint(
        tmp_path_factory.mktemp("sd"),
        bins=0,
        vae={"in_channels": 3, "out_channels": 3, "block_out_channels": (4, 4, 8, 8)},
        scheduler={"prediction_type": "epsilon", "timestep_spacing": "leading", "steps_offset": 1},
        native=None,
    )


@pytest.fixture(scope="session")
def tiny(tiny_family: Path) -> "Model":
    """The tiny family, loaded."""
    from cloisonne.models.load import load

    return load(tiny_family)


def write_checkpoint(
    folder: Path, *, bins: int, vae: dict[str, Any], scheduler: dict[str, Any], native: dict[str, Any] | None
) -> Path:
    """A pipeline folder with random weights."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(bins)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=16,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    levels = len(vae["block_out_channels"])
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    parts = {
        "tokenizer": tokenizer,
        "text_encoder": CLIPTextModel(text),
        "unet": UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            mid_block_type=None,
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=2,
            cross_attention_dim=16,
        ),
        "vae": AutoencoderKL(
            latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            norm_num_groups=4,
            scaling_factor=0.5,
            **vae,
        ),
        "scheduler": DDIMScheduler(clip_sample=False, set_alpha_to_one=False, **betas, **scheduler),
    }
    index: dict[str, Any] = {"_class_name": "StableDiffusionPipeline"}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        library = "transformers" if name in ("tokenizer", "text_encoder") else "diffusers"
        index[name] = [library, type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))
    if native is not None:
        (folder / "family.json").write_text(json.dumps({"version": 1, "native": native}))
    return folder


def tiny_tokenizer(bins: int) -> Any:
    """CLIP's tokenizer of single letters and ``WORDS``, with position tokens <bin000> and so on."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    symbols = dict.fromkeys(alphabet + [f"{symbol}</w>" for symbol in alphabet])
    merges: list[tuple[str, str]] = []
    for word in WORDS.split():
        left, *rest = [*word[:-1], f"{word[-1]}</w>"]
        for right in rest:
            merges += [] if (left, right) in merges else [(left, right)]
            left += right
            symbols[left] = None
    vocab = {symbol: i for i, symbol in enumerate([*symbols, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)
    tokenizer.add_tokens([f"<bin{i:03d}>" for i in range(bins)])
    return tokenizer
