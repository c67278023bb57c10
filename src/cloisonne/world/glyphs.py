"""Which glyphs the world draws, what they are called, and which no training may see.

The 64 core glyphs carry the text-driven methods, ``TRAINING`` (core included) the picture-driven ones, and ``HELD_OUT``
is seen by no training.
A glyph is identified by its character; its class number is its place in ``TRAINING``.
"""

import unicodedata
from dataclasses import dataclass
from importlib import resources

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink")


@dataclass(frozen=True)
class Core:
    """A core glyph: its character, its words (the first is the name), and whether it comes in the seven colours."""

    char: str
    words: tuple[str, ...]
    recolourable: bool = False

    @property
    def name(self) -> str:
        return self.words[0]


_CORE_TABLE = """
🍩 doughnut, donut
🐱 cat, kitten
🐶 dog, puppy
🍎 apple *
🍌 banana
🍕 pizza, slice of pizza
🍓 strawberry
🚗 car, automobile *
🚌 bus *
🚀 rocket
⛵ sailboat, boat *
🏠 house, cottage *
🏰 castle
🌳 tree
🌴 palm tree, palm
🌵 cactus
🌻 sunflower *
🍄 mushroom, toadstool *
🎈 balloon *
🎸 guitar *
⚽ soccer ball, football
⏰ alarm clock, clock *
📕 book *
🐧 penguin
🦉 owl
🐟 fish *
🦋 butterfly *
🐢 turtle, tortoise
⛄ snowman
☂ umbrella *
👑 crown *
🤖 robot
🧸 teddy bear, teddy
🐘 elephant
🦁 lion
🐼 panda
🐸 frog
🐙 octopus *
🦀 crab *
🐳 whale
🐬 dolphin
🐝 bee, honeybee
🐞 ladybug, ladybird
🌹 rose *
🌷 tulip *
🌸 cherry blossom, blossom
🍉 watermelon
🍇 bunch of grapes, grapes *
🍋 lemon
🥕 carrot
🍨 ice cream, bowl of ice cream
🎂 birthday cake, cake
🍔 hamburger, burger
☕ coffee, cup of coffee
🚲 bicycle, bike *
✈ airplane, plane
🚂 locomotive, steam train
🚜 tractor *
⛺ tent *
🗼 tower, tokyo tower
📷 camera
💡 light bulb, bulb
🔑 key
🎁 gift, present *
"""


def _core() -> tuple[Core, ...]:
    rows = []
    for line in _CORE_TABLE.strip().splitlines():
        char, rest = line.split(" ", 1)
        words = tuple(word.strip() for word in rest.rstrip(" *").split(","))
        rows.append(Core(char, words, rest.endswith("*")))
    return tuple(rows)


CORE = _core()

# Mutually separable, and none with a close neighbour among the training glyphs.
HELD_OUT = tuple(
    "🦒🥑🍍🥨🦩🦚🦔🦘🦥🦈🦑🦞🐌🦂🍒🥝🥥🌽🥦🥐🥞🧀🍿🍣🎃🎄🎻🎺🥁🎲♟🧩🪁🎯🏀🎳🛹🛶🚁🛸⚓🗿⛩🗽🎡🎠💎✂🔭🧲🪜🧯🪣🧹🧦👓🩰🪂🪆🧬"
)

# glyphs.txt beside this file: the other glyphs of the font that show a thing or a face; no letters, arrows, plain
# shapes, clock faces or skin tones,
# and none that looks like a held-out one.
TRAINING = tuple(c.char for c in CORE) + tuple(
    resources.files("cloisonne.world").joinpath("glyphs.txt").read_text("utf-8").replace("\n", "")
)


def words_of(char: str) -> tuple[str, ...]:
    """The natural words of a glyph: our own for the core, its Unicode name in lower case elsewhere."""
    for row in CORE:
        if row.char == char:
            return row.words
    return (unicodedata.name(char).lower().replace("-", " "),)
