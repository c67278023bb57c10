"""Scenes and their regions, masks, image references, and the file formats that carry them. Nothing here needs torch."""

from cloisonne.scene.io.exporters import to_elements
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.io.importers import from_coco, from_elements, from_gligen, from_mrgd
from cloisonne.scene.io.infotext import infotext
from cloisonne.scene.io.interchange.automatic1111 import from_infotext
from cloisonne.scene.io.interchange.coco_annotations import to_coco
from cloisonne.scene.io.interchange.exporting import export_scene
from cloisonne.scene.io.interchange.gligen import from_gligen_demo
from cloisonne.scene.io.interchange.importing import import_scene
from cloisonne.scene.io.interchange.instance_diffusion import from_instance_diffusion
from cloisonne.scene.io.interchange.invokeai import from_invokeai
from cloisonne.scene.io.interchange.layer_folder import from_layers
from cloisonne.scene.io.interchange.mask_files import to_masks
from cloisonne.scene.io.interchange.psd import from_psd
from cloisonne.scene.io.output import check_output, write_picture
from cloisonne.scene.io.overlay import draw_regions
from cloisonne.scene.io.png_record import Record, self_contained
from cloisonne.scene.io.reco_text import from_reco, hub_string
from cloisonne.scene.io.source_image import Source, difference_outside
from cloisonne.scene.overlap import region_weights, uncovered
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import Box, Window, crop_window, pixel_window
from cloisonne.scene.shapes.masks import Mask, downsample

__all__ = [
    "Box",
    "ImageRef",
    "Mask",
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
    "export_scene",
    "from_coco",
    "from_elements",
    "from_gligen",
    "from_gligen_demo",
    "from_infotext",
    "from_instance_diffusion",
    "from_invokeai",
    "from_layers",
    "from_mrgd",
    "from_psd",
    "from_reco",
    "hub_string",
    "import_scene",
    "infotext",
    "pixel_window",
    "region_weights",
    "self_contained",
    "to_coco",
    "to_elements",
    "to_masks",
    "uncovered",
    "write_picture",
]
