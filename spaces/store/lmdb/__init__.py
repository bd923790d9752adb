"""The embedded engine: LMDB, written by a single process per data folder.

Modules:
    engine: opening a store, alone or through the storekeeper.
    snapshots: all of a store at one moment, for backups and checks.
    storekeeper: the single writer process of a data folder.
"""
