"""The configured store, and the storage for large values."""
