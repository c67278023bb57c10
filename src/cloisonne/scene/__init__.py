"""What a user says: scenes and their regions, masks, given pictures, and the files that carry them. No tensors here."""

from cloisonne.scene.geometry import Box, Window, crop_window, pixel_window
from cloisonne.scene.importers import from_coco, from_gligen, from_mrgd
from cloisonne.scene.layers import region_weights, uncovered
from cloisonne.scene.masks import Mask, downsample
from cloisonne.scene.output import check_output, write_picture
from cloisonne.scene.overlay import draw_regions
from cloisonne.scene.parameters import infotext
from cloisonne.scene.pictures import Picture
from cloisonne.scene.reco_text import from_reco, hub_string
from cloisonne.scene.record import Record, self_contained
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.source import Source, difference_outside

__all__ = [
    "Box",
    "Mask",
    "Picture",
    "Record",
    "Region",
    "Scene",
    "Source",
    "Window",
    "check_output",
    "crop_window",
    "difference_outside",
    "downsample",
    "draw_regions",
    "from_coco",
    "from_gligen",
    "from_mrgd",
    "from_reco",
    "hub_string",
    "infotext",
    "pixel_window",
    "region_weights",
    "self_contained",
    "uncovered",
    "write_picture",
]
