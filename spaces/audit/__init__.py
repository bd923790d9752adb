"""The audit log of a node.

Its records form a hash chain, which can be exported and pruned.
"""
