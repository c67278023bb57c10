"""Attention: text sequences by region, joint attention, image prompts, edits, token maps."""
