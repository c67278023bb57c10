"""Settings of editing regions, and their presets (MRGD, AAAI 2024, 38(4)). Nothing here needs torch."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from cloisonne.scene.conditions.edit import Edit

NEAR = 2.0
"""Side of a close-up crop, as a multiple of the longer side of the edited area."""
FLOW_START = 0.6
"""Fraction of the steps in which an object flows that stays the same and changes its look."""


@dataclass(frozen=True, kw_only=True)
class Editing:
    """Settings of an edit. Loss weights are for Stable Diffusion; see ``methods/mrgd/losses.py``.

    Attributes:
        regions: predict each region in its own view; otherwise the scene's method conditions on the regions.
        crops: these views see only their own window.
        whole: a view of the whole image joins them late.
        policies: share attention between the canvases by ``POLICIES``.
        self_attention_share: fraction of the steps in which the canvas after the edit uses the self-attention of the
            canvas before it; only if no object is added, removed or replaced (prompt-to-prompt).
        boost: "none", "additive" or "official": how self-attention of the whole image is increased for keys in the
            named regions.
        keywords: number of words that the losses look for, those with the sharpest attention maps; 0 uses phrases.
        loss_rs, loss_is, loss_ip, loss_gone, loss_seen: weights of the losses.
        gain: factor of all losses.
        contrast: "infonce", or "official" as in the paper's code.
        normalise: normalise CLIPSeg's input by CLIP's statistics.
        decoder: decodes the estimate for CLIPSeg: "vae", or "linear", which is cheaper.
        limit: largest change of the estimate per step, as a fraction of it; 0 is unlimited.
        follow: outside of the edited regions the canvas after the edit equals the one before.
        paste_changed_only: paste only the pixels of an edited region where CLIPSeg finds the objects before or after.
            None: where the model has a CLIPSeg.
        inversion: of a given image: "direct" (a stored path), "belm" (a solver that is its own inverse) or "null-text".
            "auto": belm on flow models, else direct.
        fresh_noise: fraction of fresh noise in the edited regions of a given image, in [0, 1]. None: 1 if an object is
            added, removed or replaced, else 0.5 (ours; published methods start from the inverted noise, 0).
        close_up: side of the crop of a given image, as a multiple of the longer side of the edited area; only edited
            regions condition it. 0: all regions are in the crop, with at least 3.5 times their longer side. None: 0 if
            an object is removed, so that the crop shows what continues there, else NEAR.
        flow: without inversion, by FlowEdit (arXiv 2412.08629).
        flow_start: fraction of the steps, the last ones, in which every edited region flows (n_max of the paper). None:
            FLOW_START where the object stays the same; others are painted anew.
        n_avg: number of noises per step of FlowEdit, whose differences are averaged.
        source_guidance: guidance scale of the image before, in FlowEdit.
        reuse_background: do not compute image tokens outside of the edited regions in the image after: its others
            attend to the keys and values of the image before (KV-Edit, arXiv 2502.17363), of one step at a time. On
            FLUX and Z-Image; the report has the memory of them.
    """

    regions: bool = False
    crops: bool = False
    whole: bool = False
    policies: bool = False
    self_attention_share: float = 0.0
    boost: Literal["none", "additive", "official"] = "none"
    keywords: int = 0
    loss_rs: float = 0.0
    loss_is: float = 0.0
    loss_ip: float = 0.0
    loss_gone: float = 0.0
    loss_seen: float = 0.0
    contrast: Literal["infonce", "official"] = "infonce"
    normalise: bool = True
    decoder: Literal["vae", "linear"] = "vae"
    gain: float = 1.0
    limit: float = 0.0
    follow: bool = True
    paste_changed_only: bool | None = False
    inversion: Literal["auto", "direct", "belm", "null-text"] = "auto"
    fresh_noise: float | None = None
    close_up: float | None = 0.0
    flow: bool = False
    flow_start: float | None = None
    n_avg: int = 1
    source_guidance: float = 1.0
    reuse_background: bool = False

    def close_up_for(self, kinds: Collection[str]) -> float:
        """``close_up`` for a scene with edits of these kinds."""
        if self.close_up is not None:
            return self.close_up
        return 0.0 if "remove" in kinds else NEAR

    def flow_start_of(self, edit: Edit) -> float | None:
        """Fraction of the steps in which a region with this edit flows; None where it is painted anew."""
        if self.flow_start is not None:
            return self.flow_start
        return None if edit.redraws else FLOW_START

    def inversion_of(self, prediction: str) -> str:
        """``inversion`` on a model with this parameterization."""
        if self.inversion != "auto":
            return self.inversion
        return "belm" if prediction == "flow" else "direct"

    @property
    def steers(self) -> bool:
        """Whether any loss has a weight."""
        return any((self.loss_rs, self.loss_is, self.loss_ip, self.loss_gone, self.loss_seen))


PRESETS: Mapping[str, Editing] = {
    "follow": Editing(self_attention_share=0.4, close_up=None),
    "mrgd": Editing(
        self_attention_share=0.4, close_up=None, paste_changed_only=True, loss_seen=1000.0, gain=8.0, limit=0.1
    ),
    "flow": Editing(flow=True, close_up=None, paste_changed_only=None),
    "official": Editing(
        regions=True,
        crops=True,
        whole=True,
        policies=True,
        boost="official",
        keywords=15,
        loss_rs=1000.0,
        loss_is=2000.0,
        loss_ip=300.0,
        contrast="official",
        normalise=False,
        follow=False,
    ),
    "p2p": Editing(regions=True, policies=True, follow=False),
    "multidiffusion": Editing(regions=True, follow=False),
}
"""follow: the shared canvas, without losses. mrgd: ours, with the settings that measure better. flow: FlowEdit where an
object stays the same, without inversion and losses. official: as published. p2p: prompt-to-prompt per region.
multidiffusion: one prediction per region, nothing shared. The paper compares with the last two."""
