"""Attestation with Intel TDX: quote verification, and a backend that attests its code.

The decision whether evidence suffices for a release is in `encryption_network.gate`.
"""
