"""Pretrained networks behind one interface: x0 estimators, text encoders, autoencoders and adapters."""
