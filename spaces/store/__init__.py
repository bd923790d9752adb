"""A key-value store with ordered keys and atomic commits.

Two engines implement it.

The engines do not interpret rows. The folder `postgres` needs the extra `postgres`.
"""
