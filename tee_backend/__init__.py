"""Attestation with Intel TDX: verify quotes, and run a backend that proves its code.

The decision whether evidence suffices for a release is in `encryption_network.gate`.
"""
