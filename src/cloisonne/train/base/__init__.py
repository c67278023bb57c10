"""The base of the built-in family: text encoder and UNet, their latents, captions and losses."""
