"""ReCo fine-tuning of any Stable Diffusion 1.x or 2.x checkpoint (arXiv 2211.15518, section 3).

cloisonne train reco --base runwayml/stable-diffusion-v1-5 --data pictures --output reco
"""
