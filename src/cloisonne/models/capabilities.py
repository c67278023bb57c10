"""Whether a model family supports a condition. An unsupported one is refused with the region's name, never ignored.

Which condition is supported how is a column of ``KINDS`` in ``methods/kinds.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from cloisonne.errors import CapabilityError, spelled
from cloisonne.models.families import FAMILIES
from cloisonne.models.model import Model


@dataclass(frozen=True)
class Support:
    """Whether a model family supports a condition.

    mark: the cell of the table. advice: what to load or choose where the condition is not supported, with its python
    call and its command line option. In these, {kind} is the detail that is asked for: the control's kind, the LoRA's
    name. met: whether a model of the family supports the condition, given that detail.
    """

    mark: str
    advice: str = ""
    python: str = ""
    option: str = ""
    met: Callable[[Model, str | None], bool] = lambda model, detail: False

    def advise(self, detail: str | None) -> str:
        """The advice as the end of a sentence."""
        how = spelled(self.python, self.option)
        sentence = f"{self.advice}: {how}" if how else self.advice
        return sentence.replace("{kind}", detail or "")


Supports: TypeAlias = dict[str, Support]
"""The support of one condition by family, but for the families whose ``supports`` name it; no others support it."""


def _has_exemplars(model: Model, detail: str | None) -> bool:
    return model.takes_exemplars


def _has_control(model: Model, detail: str | None) -> bool:
    return detail in model.adapters or detail in model.controlnets


def _learns(model: Model, detail: str | None) -> bool:
    """detail: the preset of a translation; "fast" and "flow" learn no concept."""
    return detail not in ("fast", "flow") or model.takes_exemplars


YES = Support("yes", met=lambda model, detail: True)
UNSUPPORTED = Support("no", "leave it out, or load a model of another family")
WITH_POSITIONS = Support(
    "with position tokens",
    'load a checkpoint fine-tuned with position tokens ("builtin", or one made by "cloisonne train reco"), or choose '
    "the method bounded",
    met=lambda model, detail: model.text.has_positions,
)
NO_TEXT = Support("no", "give its regions exemplars alone, or load a text model and this one as its exemplar model")
WITH_PAINT_BY_EXAMPLE = Support(
    "with Paint by Example",
    "load Paint by Example with it",
    python="load(..., exemplar=FOLDER)",
    option="--exemplar-model FOLDER",
    met=_has_exemplars,
)
WITH_IP_ADAPTER = Support(
    "with an IP-Adapter",
    "load an IP-Adapter",
    python="load(..., exemplar=FILE)",
    option="--exemplar-model FILE",
    met=_has_exemplars,
)
WITH_EITHER = Support(
    "with Paint by Example or an IP-Adapter",
    "load Paint by Example with it, or an IP-Adapter",
    python="load(..., exemplar=PATH)",
    option="--exemplar-model PATH",
    met=_has_exemplars,
)
WITH_ADAPTER = Support(
    "with an adapter or ControlNet of its kind",
    "load one",
    python='load(..., adapters={"{kind}": PATH})',
    option="--adapter {kind}=PATH",
    met=_has_control,
)
WITH_CONTROLNET = Support(
    "with a ControlNet of its kind",
    "load one",
    python='load(..., adapters={"{kind}": FOLDER})',
    option="--adapter {kind}=FOLDER",
    met=_has_control,
)
WITH_LORA = Support(
    "with a LoRA of its name",
    "load it",
    python='load(..., regional_lora={"{kind}": FILE})',
    option="--regional-lora {kind}=FILE",
    met=lambda model, detail: detail in model.net.loras,
)
NOT_XL = Support("no", 'choose the method bounded, or load "builtin" or a ReCo checkpoint of Stable Diffusion 1.x')
NOT_JOINT = Support("no", "choose the method isolated")
"""Of methods that need cross-attention to text, on transformers."""
NOT_CROSS = Support("no", "choose the method bounded")
"""Of methods that need joint attention, on UNets."""

_LEARN = 'choose the preset "vct" of translating, which learns the concept, or load what the preset "fast" needs'
LEARNED = Support(
    'yes; presets "fast" and "flow" with Paint by Example', _LEARN, WITH_EITHER.python, WITH_EITHER.option, met=_learns
)
LEARNED_EITHER = Support(
    'yes; presets "fast" and "flow" with Paint by Example or an IP-Adapter',
    _LEARN,
    WITH_EITHER.python,
    WITH_EITHER.option,
    met=_learns,
)
NOT_TRANSLATED = Support("no", 'load "builtin", a Stable Diffusion 1.x or 2.x, or FLUX.2 klein')
REFERENCED = Support(
    'preset "flow"',
    'choose the preset "flow" of translating',
    met=lambda model, detail: detail == "flow",
)
"""Of concepts, on networks that take reference images."""

TEXT: Supports = {"pbe": NO_TEXT}
"""Of conditions that need only text: the families whose ``supports`` name them."""


def on_transformers(support: Support) -> Supports:
    """``support`` for all families of diffusion transformers."""
    isolated = (name for name, family in FAMILIES.items() if "phrase, method isolated" in family.supports)
    return dict.fromkeys(isolated, support)


OF_UNETS: Supports = TEXT | on_transformers(NOT_JOINT)
"""Of methods that need cross-attention to text."""


def by_family(other: Support, **families: Support) -> Supports:
    """``other`` for all families that take add-ons but those named."""
    return dict.fromkeys((name for name, family in FAMILIES.items() if family.takes_add_ons), other) | families


def refusal(condition: str, support: Support, model: Model, detail: str | None, region: str | None) -> CapabilityError:
    """The error about a condition that a model does not support. condition: with its detail, as messages call it."""
    title = FAMILIES[model.family].title
    return CapabilityError(f'The model "{model.name}" ({title}) {condition}; {support.advise(detail)}.', region=region)
