"""Backups: one file with every row of a store at one moment and every body they name (spec/operations/backup.md)."""
