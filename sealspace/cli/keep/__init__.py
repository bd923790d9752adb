"""The commands under *Keep*: secrets, values, databases and spaces."""
