"""Tasks: programs with a data set, files and a result."""
