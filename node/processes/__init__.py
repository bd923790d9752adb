"""The processes of a node: a supervisor, workers, and the storekeeper that writes the store."""
