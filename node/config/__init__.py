"""The node's settings, with their definitions, sources, checks and secrets."""
