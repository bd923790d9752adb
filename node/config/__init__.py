"""The node's settings: definitions, sources, checks and redaction of secrets."""
