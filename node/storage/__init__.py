"""Opening the configured store, and the storage of large values."""
