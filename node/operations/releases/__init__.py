"""Operations on encryption networks: policies, key releases, receipts and withdrawals.

`encryption_network.gate` decides on a release. The modules here read what it needs, and write what
a release records.
"""
