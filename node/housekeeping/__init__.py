"""Work that one process of a store does for all, under a lease.

Modules:
    retention: removing what is older than its term.
    rounds: taking the lease, and running each job when it is due.
    seal_audit: sealing audit records into the chain.
"""
