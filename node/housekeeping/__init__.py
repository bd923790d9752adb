"""Work that one process of a store does for all, under a lease."""
