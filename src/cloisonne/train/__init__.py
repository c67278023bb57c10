"""Training. ``loop`` trains the members of the built-in model family; ``engine`` fine-tunes other checkpoints."""
