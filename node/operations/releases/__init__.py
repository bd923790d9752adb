"""Operations of encryption networks: networks, policies, releases of keys, receipts, withdrawals.

`encryption_network.gate` decides on a release. The modules here read what it needs, and write what
a release records.
"""
