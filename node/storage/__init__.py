"""Opening what the settings name: the engine of the store, and the place of large values."""
