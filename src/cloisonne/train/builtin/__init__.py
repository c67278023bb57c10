"""The built-in family: its members in order, continued training, export."""
