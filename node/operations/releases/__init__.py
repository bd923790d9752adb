"""Operations of encryption networks: networks, policies, releases of keys, receipts, withdrawals.

The decision on a release is `encryption_network.gate`; what is read for it, and what a release writes, is here.

Modules:
    decrypt: a request for a key.
    in_person: rows that show whether a caller is the owner in person.
    in_person_write: writes that only an owner in person may make.
    network_reading: who may read what is kept about a network.
    networks: create, read and revoke networks.
    owner_policy: the policy of a network.
    receipts: writing receipts, and listing them.
    release_reading: everything that a release is decided on.
    withdrawal: withdrawing code, a backend or evidence.
"""
