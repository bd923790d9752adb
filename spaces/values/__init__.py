"""Values in spaces: storage, listings, quotas and signed URLs.

`node.operations.values` decides what a request may do to a value.
"""
