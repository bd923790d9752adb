"""Operations of evidence: a backend's, the node's own, and the collateral that both are judged by.

Modules:
    attest: challenges and sessions of backends.
    own_evidence: a fresh quote over the node's statement.
    refresh_collateral: fetching collateral before it is needed.
    terms: what quotes are judged by, for owners who are about to grant.
"""
