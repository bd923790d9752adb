"""The node's configuration: definitions of settings, loading, validation and secret handling."""
