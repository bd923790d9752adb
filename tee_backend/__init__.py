"""Remote attestation with Intel TDX, for backends and verifiers.

The decision whether evidence suffices for a release is in `encryption_network.gate`.
"""
