"""Background work for a store, done by the one process that holds a lease."""
