"""Storage: the store's engines, and the rows of everything that a node keeps.

The layout and meaning of each row are defined here. `capabilities` and the operations of `node` decide who may write
it. The root contains what several folders use.

Modules:
    errors: the error tree of this package.
    expiry: rows in the order of a time, for sweeps.
    identity: schema version, node DID and store id of a store.
    keyspace: the byte layout of every key.
    lease: one holder at a time among all workers and machines.
    object_migration: moving objects between folder and bucket.
    walks: walking through all rows of a kind in steps.

Folders: audit, backups, checks, documents, grants, store, values.
"""
