"""An ordered map of bytes with atomic commits, behind one contract with two engines.

Rows are opaque here. The folder `postgres` needs the extra `postgres`.
"""
