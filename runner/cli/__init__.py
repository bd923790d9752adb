"""The commands `runner`, `task`, `project` and `dataset`."""
