"""Opening what the settings name: the engine of the store, and the place of large values.

Modules:
    objects: a folder or a bucket for large values.
    stores: LMDB or PostgreSQL.
"""
