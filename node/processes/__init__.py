"""The processes of a node: supervisor, workers and the storekeeper, the store's single writer."""
