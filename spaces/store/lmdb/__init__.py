"""The embedded engine: LMDB, written by one process per data folder."""
