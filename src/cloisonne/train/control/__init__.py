"""Localized control's training: a T2I-Adapter whose features count inside of a mask, with a loss on the edges of the
predicted clean latent (Domingo-Gregorio and Ruiz-Hidalgo, arXiv 2602.01991, section 3).

cloisonne train control --kind canny --base runwayml/stable-diffusion-v1-5 --data pictures --output canny
"""
