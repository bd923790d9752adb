"""Routes: one resource a module. Each reads the request, calls one operation and shapes the answer.

Modules:
    admin: the operator's quotas and usage.
    attestation: the node's own quote.
    attestation_sessions: challenges, sessions, and an owner's policy.
    console: the files of the console.
    delegation_query: what an account granted and received.
    delegation_status: the state of one delegation.
    description: the routes, as OpenAPI describes them.
    encryption: networks, and requests for keys.
    info: version, health, readiness.
    invoke: everything that a token's capabilities ask for.
    public: values of public spaces.
    receipts: receipts and withdrawals of a network.
    shapes: bodies that other packages read and write.
    signed_urls: making and reading signed URLs.
    table: every route, once.
"""
