"""The embedded engine: LMDB, written by a single process.

Public modules: engine, storekeeper.
"""
