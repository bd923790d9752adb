"""The commands `team`."""
