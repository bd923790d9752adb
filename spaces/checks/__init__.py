"""Checking a whole store: every row, every counter, every body (spec/operations/backup.md).

Modules:
    checking: the check, and what it finds.
    rows: whether a row is one of its kind, and what it adds to counters.
"""
