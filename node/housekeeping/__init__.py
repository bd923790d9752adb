"""Background jobs that maintain the store.

The jobs run in the one process that holds the lease.
"""
