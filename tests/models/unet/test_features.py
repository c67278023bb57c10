"""Shared features equal a residual block written out, and change only the target rows."""

from typing import Any

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor

from cloisonne.core.attention.edits import ShareFeatures
from cloisonne.core.attention.text_sequences import TextSequence, TextSequences
from cloisonne.core.plan import Call, Interval, Row, Step
from cloisonne.models.model import Model
from cloisonne.models.unet.features import install

ROWS = (
    Row("canvas", "before", "cond"),
    Row("canvas", "after", "cond"),
    Row("canvas", "after", "null"),
    Row("other", "after", "cond"),
)


def call_of(model: Model, *edits: Any, progress: float = 0.0) -> Call:
    generator = torch.Generator().manual_seed(0)
    width = model.net.spec.token_width
    words = [torch.randn(5, width, generator=generator) for _ in ROWS]
    z = torch.randn(len(ROWS), model.vae.channels, 8, 8, generator=generator)
    at = Step(index=int(progress * 10), count=10, t=500, alpha=0.6, s=0.8, t_next=400, alpha_next=0.7, s_next=0.7)
    texts = TextSequences([TextSequence(i, w) for i, w in enumerate(words)], len(ROWS))
    return Call(z=z, step=at, rows=ROWS, texts=texts, edits=edits)


@torch.no_grad()
def test_it_is_a_block_whose_addition_is_another_rows(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tiny.net(call_of(tiny))
    shared = tiny.net(call_of(tiny, ShareFeatures(source="before", target="after")))
    decoder = {block for part in tiny.net.unet.up_blocks for block in part.resnets}

    def written_out(self: Any, x: Tensor, temb: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self not in decoder:
            return forward(self, x, temb, *args, **kwargs)
        h = self.conv1(self.nonlinearity(self.norm1(x)))
        h = h + self.time_emb_proj(self.nonlinearity(temb))[:, :, None, None]
        h = self.conv2(self.dropout(self.nonlinearity(self.norm2(h))))
        h = torch.stack([h[0], h[0], *h[2:]])
        return ((x if self.conv_shortcut is None else self.conv_shortcut(x)) + h) / self.output_scale_factor

    forward = ResnetBlock2D.forward
    monkeypatch.setattr(ResnetBlock2D, "forward", written_out)
    assert torch.allclose(tiny.net(call_of(tiny)), shared, atol=1e-5)
    assert torch.equal(shared[[0, 2, 3]], plain[[0, 2, 3]])
    assert not torch.allclose(shared[1], plain[1], atol=1e-3)


@torch.no_grad()
def test_it_ends_with_its_interval_and_leaves_no_state(tiny: Model) -> None:
    edit = ShareFeatures(source="before", target="after", when=Interval(0.0, 0.5))
    late = call_of(tiny, edit, progress=0.6)
    assert torch.equal(tiny.net(late), tiny.net(call_of(tiny, progress=0.6)))
    assert not torch.equal(tiny.net(call_of(tiny, edit)), tiny.net(call_of(tiny)))
    assert torch.equal(tiny.net(late), tiny.net(call_of(tiny, progress=0.6)))


@torch.no_grad()
def test_hooks_put_on_again_act_once(tiny: Model) -> None:
    """Pairs that form a chain would be taken twice by two hooks."""

    class Chain(ShareFeatures):
        def features(self, call: Call) -> list[tuple[int, int]]:
            return [(0, 1), (1, 2)]

    call = call_of(tiny, Chain(source="before", target="after"))
    once = tiny.net(call)
    install(tiny.net.unet)
    assert torch.equal(tiny.net(call), once)
