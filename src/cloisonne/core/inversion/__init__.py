"""From a clean canvas back to noise: DDIM, O-BELM, null-text optimisation; and FlowEdit, which edits without that."""
