"""Opening the configured storage: the store's engine, and the place of large values."""
