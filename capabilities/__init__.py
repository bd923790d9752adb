"""Who may do what: identifiers, tokens, signatures and the rules of delegation chains. Pure: no I/O, no clock.

What is registered, revoked or used already is state: `spaces.grants` stores it, and the caller passes it in.

Modules:
    abilities: names of abilities, their aliases, and what each implies.
    ambient: protocols of the clock and the random source that are passed in.
    cacao: a wallet's signed message on the wire.
    caveats: conditions on a capability, and whether a narrower grant keeps them.
    chain: the chain rules for registering, invoking and revoking.
    cids: content identifiers on the wire, content keys inside.
    errors: the error tree of this package.
    facts: statements beside the capabilities of a token.
    issuers: the key that a DID signs with, without a look-up.
    jwk: public keys as JSON Web Keys.
    kinds: what a token is for: a grant or a request.
    principals: DIDs and their canonical form.
    recap: capabilities inside a sign-in text.
    references: delegations that a token names by CID.
    resources: spaces, resources, encryption networks, and containment.
    sign_ins: which session keys act as the owner in person.
    signatures: verifying and making signatures.
    siwe: the EIP-4361 text, and the times in it.
    strict_base64: base64 with exactly one text for each byte string.
    strict_json: JSON objects from untrusted input, strictly.
    tokens: the text of an `Authorization` header, read.
    ucan: UCAN 0.10 as a compact JWS.
    verifiers: one verifier for each type of key.
"""
