"""The configured key-value store and the storage for large values."""
