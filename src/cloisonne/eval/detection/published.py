"""Published figures of the benchmarks, to print next to ours. They are others' measurements, without intervals."""

from collections.abc import Mapping

Levels = tuple[float, float, float, float, float, float]
"""At 2, 3, 4, 5 and 6 objects, and over all instances; fractions."""

MIG_SUCCESS: Mapping[str, Levels] = {
    "BoxDiff": (0.28, 0.24, 0.14, 0.12, 0.13, 0.16),
    "GLIGEN": (0.42, 0.32, 0.27, 0.27, 0.28, 0.30),
    "ReCo": (0.63, 0.53, 0.55, 0.52, 0.55, 0.55),
    "InstanceDiffusion": (0.58, 0.52, 0.55, 0.47, 0.47, 0.51),
    "MIGC": (0.74, 0.67, 0.67, 0.63, 0.66, 0.66),
}
MIG_IOU: Mapping[str, Levels] = {
    "BoxDiff": (0.37, 0.33, 0.25, 0.23, 0.23, 0.26),
    "GLIGEN": (0.37, 0.29, 0.253, 0.26, 0.26, 0.27),
    "ReCo": (0.55, 0.48, 0.49, 0.47, 0.49, 0.49),
    "InstanceDiffusion": (0.52, 0.48, 0.50, 0.42, 0.42, 0.46),
    "MIGC": (0.64, 0.58, 0.57, 0.54, 0.57, 0.56),
}
MIG_SOURCE = (
    "Rows in italics are published: README of github.com/LeyRio/MIG_Bench, 800 images of each method, judged by "
    "Grounding DINO (Swin-T) and SAM (ViT-H)."
)

SPATIAL: Mapping[str, float] = {
    "Stable Diffusion 1.4": 0.1246,
    "Stable Diffusion 2": 0.1342,
    "Structured Diffusion": 0.1386,
    "Attend-and-Excite": 0.1455,
    "GORS": 0.1815,
    "SDXL": 0.2032,
    "PixArt-α": 0.2082,
    "LMD+": 0.2537,
    "GLIGEN": 0.2632,
}
SPATIAL_SOURCE = (
    "Rows in italics are published, judged by UniDet with 10 images for each of 300 prompts: arXiv 2310.00426; GLIGEN "
    "and LMD+ arXiv 2402.12908, table 1. Confidences are half of this score, and other detectors have others: compare "
    "only roughly."
)
