"""Values of spaces: heads, inline bodies, objects in files or a bucket, listings, quotas,
signed-URL tickets.

What a request may do to a value is judged in `node.operations.values`.
"""
