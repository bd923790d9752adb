"""Operations of encryption networks: networks, policies, releases of keys, receipts, withdrawals.

The decision on a release is `encryption_network.gate`; what is read for it, and what a release
writes, is here.
"""
