"""Other people's weights in one shape: networks that estimate x0, text encoders, autoencoders."""
