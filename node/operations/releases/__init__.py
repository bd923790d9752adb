"""Use cases of encryption networks: networks, policies, releases of keys, receipts, withdrawals."""
