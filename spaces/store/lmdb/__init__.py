"""The embedded engine: LMDB, written by a single process per data folder."""
