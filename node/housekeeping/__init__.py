"""Background jobs of a store, run only by the one process that holds a lease in it."""
