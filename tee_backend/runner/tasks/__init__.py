"""Tasks: runs of programs with files, a data set and an encrypted result."""
