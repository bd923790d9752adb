"""Which store and which place for large values the settings name."""
