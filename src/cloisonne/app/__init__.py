"""The use cases, and the command line that calls them."""
