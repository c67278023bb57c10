"""The glyphs of the world, their names, and the split into training and held-out glyphs.

Text-conditioned models are trained on the 64 core glyphs, image-conditioned models on ``TRAINING`` (which includes the
core). No training uses ``HELD_OUT``. A glyph is identified by its character; its class is its index in ``TRAINING``.
"""

import unicodedata
from dataclasses import dataclass
from importlib import resources

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink")


@dataclass(frozen=True)
class Core:
    """A core glyph: its character, its synonyms (the first is the name), and whether it is drawn in seven colours."""

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

# Mutually separable, and none similar to a training glyph.
HELD_OUT = tuple(
    "🦒🥑🍍🥨🦩🦚🦔🦘🦥🦈🦑🦞🐌🦂🍒🥝🥥🌽🥦🥐🥞🧀🍿🍣🎃🎄🎻🎺🥁🎲♟🧩🪁🎯🏀🎳🛹🛶🚁🛸⚓🗿⛩🗽🎡🎠💎✂🔭🧲🪜🧯🪣🧹🧦👓🩰🪂🪆🧬"
)

# glyphs.txt: the other glyphs of the font that depict an object or a face; no letters, arrows, plain shapes, clock
# faces or skin tones, and none similar to a held-out glyph.
TRAINING = tuple(c.char for c in CORE) + tuple(
    resources.files("cloisonne.world").joinpath("glyphs.txt").read_text("utf-8").replace("\n", "")
)


def words_of(char: str) -> tuple[str, ...]:
    """The names of a glyph: the synonyms of a core glyph, otherwise its Unicode name in lower case."""
    for row in CORE:
        if row.char == char:
            return row.words
    return (unicodedata.name(char).lower().replace("-", " "),)
