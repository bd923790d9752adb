"""Verification of TDX quotes with their event logs and collateral."""
