"""Writes MODEL_CARD.md and its sample sheets from the built-in family: ``python scripts/model_card.py``."""

from pathlib import Path

from cloisonne.bench.member_sheets import write_sheet
from cloisonne.models.builtin import BUILTIN, Member, members

ROOT = Path(__file__).resolve().parents[1]

ROLES = {
    "vae": "autoencoder, f8, 8 latent channels, over 4 × 4 pixel-unshuffled pictures",
    "text_encoder": "CLIP text encoder with 128 position tokens",
    "unet": "v-prediction UNet; captions, ReCo sequences and place words",
    "clip": "contrastive text and picture towers over all training glyphs",
    "clipseg": "CLIPSeg's decoder on clip: where words are seen in a picture, for MRGD's losses",
    "exemplar": "Paint by Example: the UNet's first layer of 17 channels, low-rank changes, head on clip",
    "control-canny": "T2I-Adapter for edges inside of a mask",
    "control-color": "T2I-Adapter for a palette of colours inside of a mask",
    "judge": "measures only: dense object map, colour, style, 64-d embedding",
}

CONTROL = (
    "; the map, dark where it does not act; what is drawn\nfrom it and words for the background; "
    "and with words for the region, too:"
)
SHEETS = {
    "exemplar": "Pictures with holes, an exemplar that no training has seen, and what is painted:",
    "control-canny": f"A picture of the world whose edges are given{CONTROL}",
    "control-color": f"The same with its palette of colours{CONTROL}",
}

HEAD = """# Model card: the built-in family

A small text-to-image family with region control, 128 × 128 pixels, trained by `cloisonne train family` on
pictures that `cloisonne draw` makes: 64 emoji-like objects (some in seven colours) on eleven kinds of
background. It exists so that everything can be run, tested and measured without downloading a model. Weights
are float16 safetensors; code commit, seeds, device, minutes, pictures, figures and the hashes of its parents
stand in each member's `provenance.json`, and loading a member with another parent is an error.

**Intended use**: trying and testing region control, and measuring methods side by side. **Not for**:
photographs, people, text, or anything outside its small world. **Data**: drawn from Noto Color Emoji (SIL OFL
1.1, see NOTICE); the font is not part of the models.

"""


def card(family: Path = BUILTIN) -> str:
    """The text of MODEL_CARD.md."""
    lines = [
        HEAD,
        "| member | role | MiB | device | minutes | pictures seen | figures |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_row(member) for member in members(family)]
    total = sum(member.bytes for member in members(family)) / 2**20
    lines += [
        "",
        f"All weights together: {total:.1f} MiB. `psnr_mean` is the mean over pictures in dB, `psnr` that of the",
        "mean squared error; `crops` is the share of unoccluded core objects whose crop the judge names right, on true",
        "pixels and through the autoencoder; `named` is the share of object cells that the UNet's features name right",
        "at t > 700 while training.",
        "clipseg's `iou`: mean over 150 pictures of what is found of a present object with what is there; `false`: "
        "mean share of a picture that is found of an object that is not there.",
        "clip's `top1` and `top5`: of 500 glyphs drawn large on plain colours, each told from 1,012 names.",
        "The first base and judge were trained with a recipe that changed on the way: see docs/training.md.",
        "What the methods reach stands in [docs/results.md](docs/results.md).",
        "",
        "## Samples",
        "",
        "Scenes told as regions (`reco`), 20 steps, guidance 2.5, seed 0 each, not chosen:",
        "",
        "![Eight scenes with their regions](docs/images/sheet-unet.png)",
        "",
        "Pictures of the world, and what the autoencoder makes of them:",
        "",
        "![True pictures above their reconstructions](docs/images/sheet-vae.png)",
        "",
    ]
    there = {member.name for member in members(family)}
    for name, told in SHEETS.items():
        if name in there:
            lines += [told, "", f"![Sample sheet of {name}](docs/images/sheet-{name}.png)", ""]
    return "\n".join(lines)


def _row(member: Member) -> str:
    made = member.provenance
    figures = ", ".join(f"{name} {value:g}" for name, value in made["metrics"].items()) or "with the UNet"
    cells = (
        member.name,
        ROLES.get(member.name, ""),
        f"{member.bytes / 2**20:.1f}",
        made["device"],
        f"{made['minutes']:g}",
        f"{made['pictures']:,}",
        figures,
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write the card and the sheets."""
    (ROOT / "MODEL_CARD.md").write_text(card())
    for member in members(BUILTIN):
        write_sheet(member.name, BUILTIN, ROOT / "docs" / "images")


if __name__ == "__main__":
    main()
