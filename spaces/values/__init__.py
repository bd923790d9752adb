"""Storage, listings, quotas and signed URLs for values in spaces.

`node.operations.values` decides what a request may do to a value.
"""
