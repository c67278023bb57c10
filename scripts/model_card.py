"""Write MODEL_CARD.md and its sample sheets from the built-in family: ``python scripts/model_card.py``."""

from pathlib import Path

from cloisonne.models.builtin import BUILTIN, Member, members

ROOT = Path(__file__).resolve().parents[1]

ROLES = {
    "vae": "autoencoder, f8, 8 latent channels, over 4 × 4 pixel-unshuffled images",
    "text_encoder": "CLIP text encoder with 128 position tokens",
    "unet": "v-prediction UNet; captions, ReCo sequences, place words, exemplars and holes",
    "clip": "contrastive text and image encoders over all training glyphs",
    "clipseg": "CLIPSeg's decoder on clip: segments an image by text, for MRGD's losses",
    "exemplar": "Paint by Example as pseudo-words: head on clip, the UNet's first layer of 17 channels",
    "control-canny": "T2I-Adapter for edges inside of a mask",
    "control-color": "T2I-Adapter for a colour palette inside of a mask",
    "judge": "for measurements only: dense object map, colour, style, 64-d embedding",
}

CONTROL = (
    "; the map, dark where it does not act; the image generated\nfrom it with a phrase for the background; "
    "and with a phrase for the region, too:"
)
SHEETS = {
    "exemplar": "Images with holes, a held-out exemplar, and the result:",
    "control-canny": f"A world image whose edges are given{CONTROL}",
    "control-color": f"The same with its colour palette{CONTROL}",
}

HEAD = """# Model card: the built-in family

A small text-to-image family with region control, 128 × 128 pixels, trained by `cloisonne train family` on
images from `cloisonne draw`: 64 emoji-like objects (some in seven colours) on eleven kinds of background. It
exists so that everything can be run, tested and measured without downloading a model. Weights are float16
safetensors; code commit, seeds, device, minutes, images, figures and the hashes of its parents are in each
member's `provenance.json`, and loading a member with another parent is an error.

**Intended use**: trying and testing region control, and measuring methods side by side. **Not for**:
photographs, people, text, or anything outside its small world. **Data**: rendered from Noto Color Emoji (SIL OFL
1.1, see NOTICE); the font is not part of the models.

"""


def card(family: Path = BUILTIN) -> str:
    """The text of MODEL_CARD.md."""
    lines = [
        HEAD,
        "| member | role | MiB | device | minutes | training images | figures |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_row(member) for member in members(family)]
    total = sum(member.bytes for member in members(family)) / 2**20
    lines += [
        "",
        f"All weights together: {total:.1f} MiB. `psnr_mean` is the mean over images in dB, `psnr` that of the",
        "mean squared error; `crops` is the share of unoccluded core objects whose crop the judge names right, on true",
        "pixels and through the autoencoder; `named` is the share of object cells that the UNet's features name right",
        "at t > 700 while training.",
        "clipseg's `iou`: mean over 150 images of the IoU of its mask of a present object with the true one; `false`: "
        "mean share of the image in its mask of an absent object.",
        "clip's `top1` and `top5`: of 500 glyphs rendered large on plain colours, each classified among 1,012 names.",
        "The recipe of the first base and judge changed during training: see docs/training.md.",
        "[docs/results.md](docs/results.md) measures the methods.",
        "",
        "## Samples",
        "",
        "Scenes with regions (`reco`), 20 steps, guidance 2.5, seed 0 each, not selected:",
        "",
        "![Eight scenes with their regions](docs/images/sheet-unet.png)",
        "",
        "World images, and their reconstructions by the autoencoder:",
        "",
        "![Originals above their reconstructions](docs/images/sheet-vae.png)",
        "",
    ]
    there = {member.name for member in members(family)}
    for name, title in SHEETS.items():
        if name in there:
            lines += [title, "", f"![Sample sheet of {name}](docs/images/sheet-{name}.png)", ""]
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
    from cloisonne.bench.member_sheets import write_sheet  # networks, which the card alone does not need

    (ROOT / "MODEL_CARD.md").write_text(card())
    for member in members(BUILTIN):
        write_sheet(member.name, BUILTIN, ROOT / "docs" / "images")


if __name__ == "__main__":
    main()
