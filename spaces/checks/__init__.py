"""Checking a whole store: every row, every counter, every body (spec/operations/backup.md)."""
