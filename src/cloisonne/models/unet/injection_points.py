"""Where residuals enter a UNet: the names in ``Conditioning.residuals``."""

DOWN = "unet.down"
"""Features added after each down block (T2I-Adapter)."""

SKIP_MID = "unet.skip_mid"
"""Residuals added to the skip connections and, last, to the middle block (ControlNet)."""
