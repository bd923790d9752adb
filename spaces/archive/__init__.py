"""Backup, restore, verification and migration of a store.

An archive contains all rows of one snapshot and every body that they refer to. A migration moves
the store to another engine, or its bodies to another storage location.
"""
