"""Who may do what: identifiers, tokens, signatures and chain rules. Pure: no input or output, no clock.

Public modules: abilities, ambient, cacao, caveats, chain, cids, errors, facts, issuers, jwk, kinds, principals,
recap, references, resources, sign_ins, signatures, siwe, strict_base64, strict_json, tokens, ucan, verifiers.
"""
