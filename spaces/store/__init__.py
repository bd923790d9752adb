"""An ordered map of bytes with atomic commits, behind one contract with two engines.

Rows are opaque here. `migration` and the folder `postgres` need the extra `postgres`.
"""
