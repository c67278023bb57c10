"""Many scenes: worker processes generate a list of them into a folder; nothing is lost, and nothing done twice."""
