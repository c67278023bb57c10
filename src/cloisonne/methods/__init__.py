"""One paper, one file: what a region of each kind compiles to."""

from cloisonne.methods.base import Method
from cloisonne.methods.baselines import Attention, Caption, MultiDiffusion, Words
from cloisonne.methods.bounded import Bounded
from cloisonne.methods.isolated import Isolated
from cloisonne.methods.reco import Reco

METHODS: dict[str, Method] = {
    "reco": Reco(),
    "bounded": Bounded(),
    "bounded-words": Bounded(place_words=True),
    "isolated": Isolated(),
    "attention": Attention(),
    "multidiffusion": MultiDiffusion(),
    "words": Words(),
    "caption": Caption(),
}
"""How regions reach the network, by the name that scenes give it."""
