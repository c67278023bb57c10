"""Training for localized control: a T2I-Adapter whose features are masked, with a loss on the edges of the x0 estimate
(Domingo-Gregorio and Ruiz-Hidalgo, arXiv 2602.01991, section 3).

cloisonne train control --kind canny --base runwayml/stable-diffusion-v1-5 --data pictures --output canny
"""
