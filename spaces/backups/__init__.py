"""Backups: one file with all rows of a store at one moment and every body that they name (spec/operations/backup.md).

Modules:
    archive: the file, a tar archive.
    restoring: making a data folder of a backup.
    taking: making a backup of a store that may be in use.
    verifying: reading all of a restored store before it is served.
"""
