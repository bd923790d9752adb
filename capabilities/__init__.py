"""Who may do what: identifiers, tokens, signatures and chain rules. Pure: no input or output, no clock.

<<<<<<< HEAD
Public modules: abilities, ambient, cacao, caveats, chain, cids, errors, facts, issuers, jwk, principals, recap,
resources, sign_ins, signatures, siwe, strict_base64, strict_json, tokens, ucan, verifiers.
=======
Public modules: abilities, ambient, cacao, caveats, chain, cids, errors, facts, issuers, jwk, kinds, principals,
recap, resources, signatures, siwe, strict_base64, strict_json, tokens, ucan, verifiers.
>>>>>>> af6fc4c (Public modules name the kinds; a host grant in a JWT names another DID than the node's)
"""
