"""Where a backend gets its quote, and the event log beside it.

Public modules: dstack, errors, simulated, simulated_log, source, tsm.
"""
