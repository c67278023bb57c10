"""How noise becomes a canvas: plans, one prediction, one loop. Depends on torch alone."""
