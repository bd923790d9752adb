"""Calls of programs: authorisation, payment, secrets, receipts and stored answers."""
