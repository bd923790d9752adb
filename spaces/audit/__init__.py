"""The audit: records, the chain over them, its export and its pruning.

Public modules: chain, export, pruning, records.
"""
