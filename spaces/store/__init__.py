"""A key-value store of ordered byte keys with atomic commits, implemented by two engines.

The engines do not interpret rows. The folder `postgres` needs the extra `postgres`.
"""
