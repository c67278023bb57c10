"""Which condition works on which model family. An unsupported one is refused with the region's name, never ignored.

``TABLE`` is the table of docs/checkpoints.md; a test compares them.
"""

from dataclasses import dataclass
from typing import get_args

from cloisonne.errors import CapabilityError, spelled
from cloisonne.models.checkpoints.parts import Family
from cloisonne.models.model import Model


@dataclass(frozen=True)
class Support:
    """Whether a model family supports a condition.

    mark: the cell of the table. advice: what to load or choose where the condition is not supported, with its python
    call and its command line option. In these, {kind} is the control's kind or the LoRA's name.
    """

    mark: str
    advice: str = ""
    python: str = ""
    option: str = ""

    def advise(self, kind: str | None) -> str:
        """The advice as the end of a sentence."""
        how = spelled(self.python, self.option)
        sentence = f"{self.advice}: {how}" if how else self.advice
        return sentence.replace("{kind}", kind or "")


YES = Support("yes")
WITH_POSITIONS = Support(
    "with position tokens",
    'load a checkpoint fine-tuned with position tokens ("builtin", or one made by "cloisonne train reco"), or choose '
    "the method bounded",
)
NO_TEXT = Support("no", "give its regions exemplars alone, or load a text model and this one as its exemplar model")
_FOLDER = {"python": "load(..., exemplar=FOLDER)", "option": "--exemplar-model FOLDER"}
_FILE = {"python": "load(..., exemplar=FILE)", "option": "--exemplar-model FILE"}
_PATH = {"python": "load(..., exemplar=PATH)", "option": "--exemplar-model PATH"}
WITH_PAINT_BY_EXAMPLE = Support("with Paint by Example", "load Paint by Example with it", **_FOLDER)
WITH_IP_ADAPTER = Support("with an IP-Adapter", "load an IP-Adapter", **_FILE)
WITH_EITHER = Support(
    "with Paint by Example or an IP-Adapter", "load Paint by Example with it, or an IP-Adapter", **_PATH
)
EXEMPLAR_NETWORKS = (WITH_PAINT_BY_EXAMPLE, WITH_IP_ADAPTER, WITH_EITHER)
WITH_ADAPTER = Support(
    "with an adapter or ControlNet of its kind",
    "load one",
    python='load(..., adapters={"{kind}": PATH})',
    option="--adapter {kind}=PATH",
)
WITH_LORA = Support(
    "with a LoRA of its name",
    "load it",
    python='load(..., regional_lora={"{kind}": FILE})',
    option="--regional-lora {kind}=FILE",
)
NOT_XL = Support("no", 'choose the method bounded, or load "builtin" or a ReCo checkpoint of Stable Diffusion 1.x')

_LEARN = 'choose the preset "vct" of translating, which learns the concept, or load what the preset "fast" needs'
LEARNED = Support('yes; preset "fast" with Paint by Example', _LEARN, **_PATH)
LEARNED_EITHER = Support('yes; preset "fast" with Paint by Example or an IP-Adapter', _LEARN, **_PATH)
NOT_TRANSLATED = Support("no", 'load "builtin", or a Stable Diffusion 1.x or 2.x')

FAMILIES: tuple[Family, ...] = get_args(Family)

TABLE: dict[str, dict[Family, Support]] = {
    "phrase, method reco": {
        "builtin": WITH_POSITIONS,
        "sd1": WITH_POSITIONS,
        "sd2": WITH_POSITIONS,
        "sdxl": NOT_XL,
        "pbe": NO_TEXT,
    },
    **{
        f"phrase, method {method}": {**dict.fromkeys(FAMILIES, YES), "pbe": NO_TEXT}
        for method in ("bounded", "bounded-words", "attention", "multidiffusion", "words", "caption")
    },
    "exemplar": {
        "builtin": WITH_PAINT_BY_EXAMPLE,
        "sd1": WITH_EITHER,
        "sd2": WITH_PAINT_BY_EXAMPLE,
        "sdxl": WITH_IP_ADAPTER,
        "pbe": YES,
    },
    "control": {**dict.fromkeys(FAMILIES, WITH_ADAPTER), "pbe": NO_TEXT},
    "lora": {**dict.fromkeys(FAMILIES, WITH_LORA), "pbe": NO_TEXT},
    "concept": {
        "builtin": LEARNED,
        "sd1": LEARNED_EITHER,
        "sd2": LEARNED,
        "sdxl": NOT_TRANSLATED,
        "pbe": NOT_TRANSLATED,
    },
    "background": dict.fromkeys(FAMILIES, YES),
}
"""Support by condition and model family; it holds for plain and inpainting checkpoints."""


def check(condition: str, model: Model, region: str | None = None, kind: str | None = None) -> None:
    """Raise CapabilityError where the model does not support a condition of ``TABLE``; region: named in the message.

    kind: the control's kind, the LoRA's name, or the preset of a translation ("fast" learns no concept).
    """
    support = TABLE[condition][model.family]
    if support is YES or (support is WITH_POSITIONS and model.text.has_positions):
        return
    if support in (LEARNED, LEARNED_EITHER) and (kind != "fast" or model.takes_exemplars):
        return
    if support in EXEMPLAR_NETWORKS and model.takes_exemplars:
        return
    if support is WITH_ADAPTER and (kind in model.adapters or kind in model.controlnets):
        return
    if support is WITH_LORA:
        if kind in model.net.loras:
            return
        names = ", ".join(f'"{name}"' for name in sorted(model.net.loras)) or "none"
        raise CapabilityError(
            f'The model "{model.name}" has no LoRA "{kind}" for regions (it has {names}); {support.advise(kind)}.',
            region=region,
        )
    named = "by the preset" if condition == "concept" else "of kind"
    wanted = condition if kind is None else f"{condition} {named} {kind}"
    raise CapabilityError(
        f'The model "{model.name}" ({TITLES[model.family]}) cannot do {wanted}; {support.advise(kind)}.', region=region
    )


TITLES: dict[Family, str] = {
    "builtin": "built-in family",
    "sd1": "Stable Diffusion 1.x",
    "sd2": "Stable Diffusion 2.x",
    "sdxl": "Stable Diffusion XL",
    "pbe": "Paint by Example",
}


def markdown() -> str:
    """``TABLE`` as a Markdown table."""
    head = ["condition", *(TITLES[family] for family in FAMILIES)]
    rows = [[condition, *(row[family].mark for family in FAMILIES)] for condition, row in TABLE.items()]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
