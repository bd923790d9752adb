"""The embedded store engine, which uses LMDB.

One process per data folder writes.
"""
