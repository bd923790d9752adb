"""TDX quotes and evidence: verifying them, and being a backend that attests.

Which evidence suffices for a release is decided elsewhere: `encryption_network.gate`.
"""
