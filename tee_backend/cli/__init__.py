"""The commands `backend`, `receipts` and `verify`."""
