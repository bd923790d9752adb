"""Archives of a store: backup, restore, check, and moves between engines or places of large values.

An archive contains all rows of one moment and every body that they name.
"""
