"""A sheet of all 64 kinds of the core, to be named by eye.

    python benchmarks/naming.py OUT --model builtin
    python benchmarks/naming.py OUT --answers answers.txt

The first draws each kind on its own, in an order that the sheet does not tell:
OUT/sheet.png has them in rows of eight, OUT/key.json their names. The second
counts the lines of a file of answers, one per picture in reading order, that
are a name of their kind.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

import cloisonne as cl
from cloisonne.world.glyphs import CORE

COLUMNS = 8
SIDE = 128


def main() -> None:
    """Draw the sheet, or count answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the sheet and its key")
    parser.add_argument("--model", default="builtin", help="model to draw with (default: builtin)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order and of the images (default: 0)")
    parser.add_argument("--answers", type=Path, help="file of answers, one name a line")
    options = parser.parse_args()
    if options.answers:
        count(options.out, options.answers.read_text().splitlines())
        return
    options.out.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(options.seed).permutation(len(CORE))
    model = cl.load(options.model)
    sheet = Image.new("RGB", (COLUMNS * SIDE, len(CORE) // COLUMNS * SIDE))
    for place, kind in enumerate(order):
        region = cl.Region(box=(0.22, 0.22, 0.78, 0.78), phrase=f"a {CORE[kind].name}")
        scene = cl.Scene(caption="on a plain background", regions=(region,), seed=options.seed + place)
        sheet.paste(cl.generate(scene, model).image, (place % COLUMNS * SIDE, place // COLUMNS * SIDE))
    sheet.save(options.out / "sheet.png")
    (options.out / "key.json").write_text(json.dumps([CORE[kind].words for kind in order], indent=1) + "\n")


def count(out: Path, answers: list[str]) -> None:
    """Print how many answers name their kind, and the others."""
    key = json.loads((out / "key.json").read_text())
    if len(answers) != len(key):
        raise SystemExit(f"There are {len(answers)} answers and {len(key)} pictures; give one line for each picture.")
    pairs = enumerate(zip(answers, key, strict=True))
    wrong = [(place, answer, names) for place, (answer, names) in pairs if answer.strip().lower() not in names]
    print(f"{len(key) - len(wrong)} of {len(key)} named")
    for place, answer, names in wrong:
        print(f"row {place // COLUMNS + 1}, column {place % COLUMNS + 1}: {answer} for {names[0]}")


if __name__ == "__main__":
    main()
