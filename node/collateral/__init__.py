"""Collateral: where it is fetched, how it is taken in, and the queue of quotes that are verified with it."""
