"""An ordered map of bytes with atomic commits, behind one contract with two engines.

Rows are opaque here. `migration` and the folder `postgres` need the extra `postgres`.

Modules:
    contract: what every engine promises.
    durable: names in folders that survive a power cut.
    migration: moving a store from one engine to the other.
    observing: what a store reports to metrics.

Folders: lmdb, postgres.
"""
