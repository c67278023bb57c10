"""From a clean canvas back to noise: DDIM, O-BELM, null-text optimisation."""
