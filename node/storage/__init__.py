"""Opening the configured storage: the store's engine, and the storage of large values."""
