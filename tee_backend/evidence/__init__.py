"""Where a backend gets its quote.

Public modules: simulated.
"""
