"""Verification of TDX quotes, event logs and collateral, and the evidence that results."""
