"""Definition, loading and validation of the node's settings."""
