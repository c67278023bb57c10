"""The Stable Diffusion UNet as an estimator of x0."""
