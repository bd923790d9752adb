"""The processes of a node: supervisor, workers, the single writer of the store; how they start and end."""
