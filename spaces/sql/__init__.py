"""SQL databases of spaces, one SQLite file each."""
