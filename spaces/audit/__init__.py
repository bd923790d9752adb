"""Audit records, the chain over them, export and pruning."""
