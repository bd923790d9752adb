"""Rows of one document each, read and written whole.

Public modules: collateral, evidence, networks, receipts, withdrawals.
"""
