"""Authorisation, payment and signed receipts for program calls."""
