"""Pictures we can make ourselves, with exact ground truth: what the built-in family is trained on and measured with."""
