"""The commands `backend`, `runner`, `project`, `receipts` and `verify`."""
