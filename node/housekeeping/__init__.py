"""Background work that one process does for all processes of a store, under a lease."""
