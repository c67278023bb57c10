"""A made-up model family of a tiny diffusion transformer: what a family of transformers has to bring.

Joint attention of text and image tokens, flow, 16 latent channels, 2 x 2 latent pixels a token, a VAE of factor 2, two
text encoders whose sequences stand one after the other, pooled text.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from cloisonne.core.attention.joint import JointLayout, QueryGroup, Segment, joint_attention, query_groups
from cloisonne.core.attention.text_sequences import TextSequence
from cloisonne.core.flow_schedule import FlowSchedule
from cloisonne.core.parameterization import to_x0
from cloisonne.core.plan import Call, Site
from cloisonne.errors import CapabilityError, SceneError
from cloisonne.models.cost import Cost, count_cost
from cloisonne.models.families import Family
from cloisonne.models.model import Model, Native
from cloisonne.models.spec import NetSpec
from cloisonne.models.text.encoder import EncodedText, weighted
from cloisonne.models.text.learned_words import LearnedWords
from cloisonne.models.vae import Vae
from cloisonne.scene.prompt import Piece

WIDTH, HEADS, CHANNELS, PATCH = 32, 2, 16, 2
SCHEDULER: Mapping[str, Any] = {"use_dynamic_shifting": True, "base_image_seq_len": 64, "max_image_seq_len": 1024}


class JointBlock(nn.Module):
    """Image and text with projections of their own and one attention (MMDiT, arXiv 2403.03206, figure 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.ModuleDict({kind: nn.Linear(WIDTH, 3 * WIDTH) for kind in ("text", "image")})
        self.out = nn.ModuleDict({kind: nn.Linear(WIDTH, WIDTH) for kind in ("text", "image")})

    def forward(
        self, text: Tensor, image: Tensor, scale: Tensor, groups: Sequence[QueryGroup]
    ) -> tuple[Tensor, Tensor]:
        """text [1, N, WIDTH], image [1, Q, WIDTH], scale [1, WIDTH]; the sequence is [text, image]."""
        parts = {"text": text, "image": image}
        projected = [self.qkv[kind](self.norm(x) * (1 + scale[:, None])) for kind, x in parts.items()]
        q, k, v = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in torch.cat(projected, 1).chunk(3, -1))
        attended = joint_attention(q, k, v, groups).transpose(1, 2).flatten(2)
        split = attended.split([text.shape[1], image.shape[1]], 1)
        text, image = (x + self.out[kind](own) for (kind, x), own in zip(parts.items(), split, strict=True))
        return text, image


class TinyTransformer(nn.Module):
    """z [1, C, H, W], level t in [0, 1], tokens [1, N, D], pooled [1, P] to the flow n - x0."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.num_blocks = blocks
        self.embed = nn.Conv2d(CHANNELS, WIDTH, PATCH, PATCH)
        self.text, self.pooled, self.time = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.blocks = nn.ModuleList(JointBlock() for _ in range(blocks))
        self.out = nn.Linear(WIDTH, CHANNELS * PATCH * PATCH)

    def forward(
        self, z: Tensor, t: Tensor, tokens: Tensor, pooled: Tensor, groups: Sequence[QueryGroup] = ()
    ) -> Tensor:
        height, width = z.shape[-2] // PATCH, z.shape[-1] // PATCH
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        places = torch.cat([_waves(rows.flatten() / 4, WIDTH // 2), _waves(columns.flatten() / 4, WIDTH // 2)], -1)
        image = self.embed(z).flatten(2).transpose(1, 2) + places.to(z)
        text, scale = self.text(tokens), self.time(_waves(8 * t, WIDTH)) + self.pooled(pooled)
        for block in self.blocks:
            text, image = block(text, image, scale, groups)
        patches = self.out(image).transpose(1, 2).unflatten(2, (height, width))
        return F.pixel_shuffle(patches, PATCH)


def _waves(x: Tensor, width: int) -> Tensor:
    """[..., width]: sines and cosines of x."""
    rates = torch.exp(-torch.arange(width // 2) / 2).to(x)
    return torch.cat([(x[..., None] * rates).sin(), (x[..., None] * rates).cos()], -1)


class TransformerDenoiser:
    """The transformer as a :class:`~cloisonne.models.denoiser.Denoiser`; every batch row runs alone."""

    def __init__(self, module: TinyTransformer, spec: NetSpec) -> None:
        self.module = module
        self.spec = spec
        self.modules = (module,)
        self.loras: Mapping[str, Any] = {}

    @torch.no_grad()
    def __call__(self, call: Call) -> Tensor:
        for what in ("image_prompts", "channels", "residuals", "loras", "edits"):
            if getattr(call, what):
                raise CapabilityError(f'View "{call.rows[0].view}": this network takes no {what}.')
        assert call.pooled is not None, "the text encoder gives pooled text"
        outputs = []
        for row, z in enumerate(call.z):
            texts = [text for text in call.texts.texts if text.row == row]
            tokens = torch.cat([text.value for text in texts])
            grid = (z.shape[-2] // self.spec.patch, z.shape[-1] // self.spec.patch)
            groups = query_groups(layout_of(texts, grid))
            level = torch.tensor([call.step.t / 1000])
            outputs.append(self.module(z[None], level, tokens[None], call.pooled[row : row + 1], groups))
        return to_x0(torch.cat(outputs).float(), call.z, call.step, self.spec.prediction)

    def sites(self, canvas: tuple[int, int]) -> tuple[Site, ...]:
        grid = (canvas[0] // self.spec.patch, canvas[1] // self.spec.patch)
        count = self.module.num_blocks
        return tuple(Site(f"blocks.{i}", grid, "joint", depth=i / max(count - 1, 1)) for i in range(count))

    def cost(self, canvas: tuple[int, int], num_tokens: int) -> Cost:
        with torch.device("meta"):
            module = TinyTransformer(self.module.num_blocks)
            z, tokens = torch.empty(1, CHANNELS, *canvas), torch.empty(1, num_tokens, WIDTH)
            return count_cost(module, z, torch.empty(1), tokens, torch.empty(1, WIDTH))


def layout_of(texts: Sequence[TextSequence], grid: tuple[int, int]) -> JointLayout:
    """The texts of one row and then the image."""
    segments, start = [], 0
    for text in texts:
        weight = None if text.mask is None else text.weight(grid)
        segments.append(Segment(start, start + len(text.value), weight, text.counts))
        start += len(text.value)
    return JointLayout(tuple(segments), (start, start + math.prod(grid)))


class TwoTextEncoders:
    """A short and a long sequence one after the other, as CLIP's and T5's; words are hashed. Its text cannot be ids."""

    lengths = (24, 32)
    vocabulary = 97
    length, capacity, width, pooled_width = sum(lengths), lengths[0] - 1, WIDTH, WIDTH
    learned, added_words = LearnedWords(), ()
    zero_when_empty = has_positions = False

    def __init__(self) -> None:
        self.modules = tuple(
            nn.Sequential(
                nn.Embedding(self.vocabulary, WIDTH),
                nn.TransformerEncoderLayer(WIDTH, HEADS, WIDTH, dropout=0, batch_first=True),
            ).eval()
            for _ in self.lengths
        )

    def encode(self, pieces: Sequence[Piece], *, region: str | None = None, blank: bool = False) -> EncodedText:
        words = [word for piece in pieces for word in piece.words.split()]
        if len(words) > self.capacity:
            raise SceneError(f"{len(words)} words, but the model reads {self.capacity}; shorten it.", region=region)
        ends = list(accumulate((len(piece.words.split()) for piece in pieces), initial=0))
        spans = tuple(tuple((k + start, k + stop) for k in (0, self.lengths[0])) for start, stop in pairwise(ends))
        if blank:
            return replace(self.blank(), word_spans=spans)
        encoded, empty = self._encoded(words), self._encoded([])
        own = [piece.weight for piece in pieces for _ in piece.words.split()]
        weights = [1.0] * self.length
        for start in (0, self.lengths[0]):
            weights[start : start + len(own)] = own
        pooled = encoded[: self.lengths[0]].mean(0)
        return EncodedText(tokens=weighted(encoded, empty, weights), pooled=pooled, word_spans=spans)

    def count(self, text: str) -> int:
        return len(text.split())

    def blank(self) -> EncodedText:
        return EncodedText(tokens=torch.zeros(self.length, WIDTH), pooled=torch.zeros(WIDTH))

    @torch.no_grad()
    def _encoded(self, words: Sequence[str]) -> Tensor:
        ids = [1 + zlib.crc32(word.encode()) % (self.vocabulary - 1) for word in words]
        padded = [torch.tensor([[*ids, *[0] * (length - len(ids))]]) for length in self.lengths]
        return torch.cat([module(own)[0] for module, own in zip(self.modules, padded, strict=True)])


FAMILY = Family(
    name="tiny-transformer",
    title="tiny transformer",
    members={"transformer": ("TinyTransformer",), "vae": ("AutoencoderKL",)},
    spec=NetSpec,
    denoiser=TransformerDenoiser,
    text=TwoTextEncoders,
    schedule=FlowSchedule.from_config,
    native=Native(width=64, height=64, steps=3, guidance=3.0, sampler="euler", method="attention"),
    supports=frozenset(
        {
            "background",
            "edit",
            *(f"phrase, method {method}" for method in ("bounded", "attention", "multidiffusion", "words", "caption")),
        }
    ),
)


def tiny_transformer(blocks: int = 2) -> Model:
    """A model of the family with random weights."""
    torch.manual_seed(0)
    vae = Vae(
        AutoencoderKL(
            block_out_channels=(4, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=CHANNELS,
            norm_num_groups=4,
            scaling_factor=0.5,
            shift_factor=0.1,
        )
    )
    schedule = FAMILY.schedule(SCHEDULER)
    spec = NetSpec(
        latent="tiny transformer",
        latent_channels=CHANNELS,
        extra_channels=0,
        token_width=WIDTH,
        pooled_width=WIDTH,
        micro=(),
        vae_factor=vae.factor,
        net_factor=PATCH,
        native_latent=32,
        prediction=schedule.prediction,
        patch=PATCH,
    )
    return Model(
        name="tiny-transformer",
        family=FAMILY.name,
        net=FAMILY.denoiser(TinyTransformer(blocks).eval(), spec),
        vae=vae,
        text=FAMILY.text(),
        schedule=schedule,
        clip=None,
        native=FAMILY.native,
        device=torch.device("cpu"),
        dtype=torch.float32,
        files=(),
    )
