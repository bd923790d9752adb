"""The route table: every route of the node, once.

The first match wins; `/invoke` stands first because it is the busiest. A trailing `/` is ignored (H4). The last two
rows answer what no other row matches.
"""

from ..route import Route
from . import attestation, attestation_sessions, delegate, encryption, fallback, info, invoke, peer, revoke, well_known

ROUTES: tuple[Route, ...] = (
    Route("POST", "/invoke", invoke.post_invocation),
    Route("POST", "/delegate", delegate.post_delegation),
    Route("POST", "/revoke", revoke.post_revocation),
    Route("POST", "/encryption/networks", encryption.post_network, json=True),
    Route("GET", "/encryption/networks/{network}", encryption.get_network),
    Route("POST", "/encryption/networks/{network}/decrypt", encryption.post_decrypt, json=True),
    Route("POST", "/encryption/networks/{network}/revoke", encryption.post_revocation),
    Route("GET", "/.well-known/encryption/network/{name}", encryption.get_well_known_network),
    Route("PUT", "/encryption/networks/{network}/policy", attestation_sessions.put_policy, surface="own", json=True),
    Route("POST", "/attestation/challenge", attestation_sessions.post_challenge, surface="own", json=True),
    Route("POST", "/attestation/sessions", attestation_sessions.post_session, surface="own", json=True),
    Route("GET", "/info", info.get_information),
    Route("GET", "/version", info.get_information),
    Route("GET", "/healthz", info.get_health),
    Route("GET", "/readyz", info.get_readiness, surface="own"),
    Route("GET", "/peer/generate/{space}", peer.get_host_did),
    Route("GET", "/.well-known/tinycloud/node-keys", well_known.get_node_keys),
    Route("GET", "/attestation", attestation.get_attestation),
    Route("OPTIONS", "/public/{space}/kv/{key:.*}", fallback.options_public),
    Route("OPTIONS", "/{path:.*}", fallback.options_any),
    Route("*", "/{path:.*}", fallback.no_route),
)
