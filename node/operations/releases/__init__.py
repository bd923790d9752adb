"""Operations on encryption networks, key releases and receipts.

The module `encryption_network.gate` decides on a release. The modules here read the data for its
decision and write the records of a release.
"""
