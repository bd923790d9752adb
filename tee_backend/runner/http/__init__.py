"""The HTTP routes of a runner."""
