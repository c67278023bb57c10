"""Models made from diffusers' pipeline objects, with the same weights in memory."""
