"""From the bytes of a quote, its event log and its collateral to evidence.

Modules:
    application: the application that an event log names, and its key provider.
    certificates: strict X.509: chains, names, windows, the platform extension.
    challenge: nonces that are recognised without being stored.
    claims: what the verifier library says, compared with our own reading.
    collateral: the signed documents that a quote is judged by.
    collateral_trust: windows, signers and signatures of collateral.
    errors: the error tree of this package.
    evaluation_numbers: which edition of the TCB levels is in force.
    event_log: entries of an event log, parsed and bounded.
    event_log_claims: an event log, replayed against a quote's registers.
    examine: from a quote to evidence, or a refusal: the one way for every quote.
    held_collateral: documents at hand, found by platform family.
    mr_config: MRCONFIGID: what the host stated about the application.
    pck_chain: the certificates inside a quote.
    pcs: fetching collateral from Intel's service or a mirror.
    quote: the parser of TDX quotes.
    refresh: when collateral is due, and what an operator is warned of.
    report_data: the 64 bytes that bind a quote to its purpose.
    signed_body: the signed body of a collateral service's answer.
    trust_domain: states of a trust domain that are never trusted.
    trust_root: the certificate at which every chain ends.
    verify: a quote and its collateral, verified into facts.
"""
