"""Background jobs on the store, run by the one process that holds the lease."""
