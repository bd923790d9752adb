"""Backup, restore and check of a store, and moves to another engine or storage location.

An archive contains all rows of one moment and every body that they name.
"""
