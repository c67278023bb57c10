"""The nodes, by what they make."""
