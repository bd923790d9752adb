"""The commands `backend`, `runner`, `project` and `verify`."""
