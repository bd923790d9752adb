"""Checking a whole store: every row, every counter, every body (spec/operations/backup.md).

Modules:
    checking: the check, and what it finds.
    pairs: whether rows that belong together are all there, and lead to each other.
    rows: whether a row is one of its kind, and what it adds to counters.
"""
