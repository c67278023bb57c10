"""Paint by Example training of any Stable Diffusion 1.x or 2.x checkpoint (arXiv 2211.13227, section 3).

cloisonne train exemplar --base runwayml/stable-diffusion-v1-5 --data pictures --output exemplar
"""
