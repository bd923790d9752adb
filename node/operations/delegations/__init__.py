"""Operations on delegations: register, revoke, report; and the spaces of an owner.

Modules:
    delegate: register a delegation, with what it hosts and creates.
    delegation_listing: one delegation, as a listing shows it.
    delegation_query: what an account granted and received, in pages.
    delegation_status: the state of one delegation.
    query_filters: the body of `/delegation/query`.
    read_capabilities: delegations that touch a space.
    revoke: revoke a delegation and all below it.
    root_identity: the wallet that a key acts for.
    sign_in_network: the network that a sign-in creates.
    space_service: the spaces of an owner.
    standing: whether a delegation is in force at a moment.
"""
