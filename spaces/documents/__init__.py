"""Rows of one document each: networks, evidence, withdrawals, receipts, collateral."""
