"""Values of spaces: heads, bodies in rows, files or a bucket, listings, quotas, signed-URL tickets.

`node.operations.values` decides what a request may do to a value.
"""
