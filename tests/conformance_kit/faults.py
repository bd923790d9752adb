"""Faults of a node, each of which the kit has to notice."""

from collections.abc import Callable
from typing import Any

from conformance_kit.line_faults import Fault

from capabilities import cacao, chain, recap, token_kinds, tokens
from encryption_network import (
    gate,
    grounds,
    receipt,
    release,
    requests,
    rotation,
    signed_descriptor,
)
from node.http.messages import browser_safety
from node.operations import authorise
from node.operations.attestation import attest
from node.operations.delegations import exchange
from node.operations.releases import key_versions, owner_policy
from node.operations.values import conditions, copy_fetches, kv_list, retired_keys, signed_urls
from sealspace.documents import key_statements
from spaces.values import listing
from tee_backend.attestation import challenge, report_data


def _fault(
    name: str,
    where: tuple[Callable[..., Any], str, str],
    *,
    group: str,
    asked: str,
) -> Fault:
    function, line, instead = where
    return Fault(name=name, function=function, line=line, instead=instead, group=group, asked=asked)


_INVOKED = chain.judge_invocation
_REGISTERED = chain.judge_registration
_SAME_KEY = 'if id_token.aud not in (node, (node,), f"{node}#{request.key}"):'

FAULTS = (
    _fault(
        "a grant to somebody else authorises",
        (_INVOKED, "if grant.delegation.delegate != invocation.invoker:", "if False:"),
        group="rights",
        asked="call with a grant to somebody else",
    ),
    _fault(
        "a revoked grant authorises",
        (
            _INVOKED,
            "_check_live(invocation.parents, known, marks,"
            ' code="delegation-revoked", role="invoked")',
            "pass",
        ),
        group="revocations",
        asked="use a grant below it",
    ),
    _fault(
        "a grant has no end",
        (_INVOKED, "if not _is_in_window(grant, now):", "if False:"),
        group="ends",
        asked="use a grant that has ended",
    ),
    _fault(
        "a grant covers everything",
        (
            _INVOKED,
            "_check_covered(dependent, [grant.delegation for grant in known],"
            ' boundary="invocation")',
            "pass",
        ),
        group="rights",
        asked="call with a neighbouring path",
    ),
    _fault(
        "caveats are not met",
        (
            _INVOKED,
            '_check_conditions(invocation.capabilities, _check_met, boundary="invocation")',
            "pass",
        ),
        group="conditions",
        asked="read what the selector does not admit",
    ),
    _fault(
        "a proof may be cited twice",
        (_INVOKED, "_check_stored(invocation.parents, cited, dependent)", "pass"),
        group="rights",
        asked="call with a grant cited twice",
    ),
    _fault(
        "terminal grants are passed on",
        (_REGISTERED, "_check_not_terminal(delegation, known, now=now)", "pass"),
        group="delegations",
        asked="a grant below a terminal one",
    ),
    _fault(
        "a grant outlives its parent",
        (
            _REGISTERED,
            "supporting = _containing_window(delegation, known)",
            "supporting = [parent.delegation for parent in known]",
        ),
        group="delegations",
        asked="a grant that outlives its parent",
    ),
    _fault(
        "a grant is passed on by somebody else",
        (_REGISTERED, "_check_delegators(delegation, known)", "pass"),
        group="delegations",
        asked="a grant below one to somebody else",
    ),
    _fault(
        "a grant is wider than its parent",
        (_REGISTERED, '_check_covered(dependent, supporting, boundary="delegation")', "pass"),
        group="delegations",
        asked="a grant of a wider path",
    ),
    _fault(
        "a grant is registered below a revoked one",
        (
            _REGISTERED,
            '_check_live(delegation.parents, known, marks, code="parent-revoked", role="parent")',
            "pass",
        ),
        group="revocations",
        asked="register a grant two levels below it",
    ),
    _fault(
        "a call lives for an hour",
        (
            chain.check_lifetime,
            "if invocation.expires_at > floor(now) + max_lifetime_s:",
            "if invocation.expires_at > floor(now) + 3600:",
        ),
        group="calls",
        asked="a call that lives for ten minutes",
    ),
    _fault(
        "a call is used twice",
        (authorise.read_call, "if snapshot.is_first_use is False:", "if False:"),
        group="calls",
        asked="the same call again",
    ),
    _fault(
        "a registered grant is a call too",
        (authorise.read_call, "if own in marks:", "if False:"),
        group="calls",
        asked="a call that was registered as a grant",
    ),
    _fault(
        "a call to another node is accepted",
        (authorise.read_call, "if addressed:", "if False:"),
        group="calls",
        asked="a call to another node",
    ),
    _fault(
        "a call has no window",
        (authorise.admit_signed, "check_window(unverified, now)", "pass"),
        group="calls",
        asked="a call that has ended",
    ),
    _fault(
        "a call's signature is not verified",
        (
            tokens.verify_invocation,
            "verify_ucan(unverified.envelope)",
            "pass",
        ),
        group="calls",
        asked="a call in the session's name by another key",
    ),
    _fault(
        "a token for one route serves at another",
        (authorise.check_unbound, "raise WrongKind", "continue"),
        group="kinds",
        asked="network creation at /invoke",
    ),
    _fault(
        "a request to the node is a delegation",
        (token_kinds.check_granting, "raise WrongKind", "pass"),
        group="kinds",
        asked="call to the node at /delegate",
    ),
    _fault(
        "anybody revokes",
        (
            chain._revoker,
            "if acting is None or not may_manage(team or acting, target):",
            "if acting is None:",
        ),
        group="revocations",
        asked="revoke as a stranger",
    ),
    _fault(
        "a wallet's signature is not verified",
        (cacao.verify_cacao, "raise BadSignature", "return"),
        group="sign-in",
        asked="a sign-in that another wallet signed",
    ),
    _fault(
        "a wallet is shown another statement",
        (
            recap.recap_of,
            "if message.statement is None"
            " or not message.statement.endswith(recap_sentence(recap)):",
            "if False:",
        ),
        group="sign-in",
        asked="a statement without the sentence of the ReCap",
    ),
    _fault(
        "a cursor is not authenticated",
        (
            kv_list.parse_cursor,
            "if not compare_digest(mac, _mac(keyring, origin, path)):",
            "if False:",
        ),
        group="listings",
        asked="the cursor under another prefix",
    ),
    _fault(
        "a condition with another value is ignored",
        (conditions._check_create_only, 'if unless.strip() != "*":', "if False:"),
        group="values",
        asked='put with if-none-match: "x"',
    ),
    _fault(
        "a public page runs in the node's origin",
        (
            browser_safety.shown_type,
            "return stored if is_allowed else OPAQUE",
            "return stored",
        ),
        group="spaces",
        asked="a public page without a token, as bytes",
    ),
    _fault(
        "a signed URL outlives its grant",
        (
            signed_urls.redeem,
            "any(marker_of(row) is not Marker.LIVE for row in conditions[:markers_end])",
            "False",
        ),
        group="more-revocations",
        asked="read it after the grant was revoked",
    ),
    _fault(
        "a network of three nodes is promised",
        (
            requests.parse_create,
            'if isinstance(threshold, dict) and (threshold["n"], threshold["t"]) != (1, 1):',
            "if False:",
        ),
        group="networks",
        asked="a network of two of three nodes",
    ),
    _fault(
        "a descriptor is signed for another nonce",
        (
            signed_descriptor.sign_descriptor,
            "nonce=nonce)",
            'nonce="A" * 43)',
        ),
        group="networks",
        asked="read it for a nonce",
    ),
    _fault(
        "a key request is not bound to its body",
        (requests.check_decrypt, "if facts.body_hash != bound.body.body_hash:", "if False:"),
        group="key-requests",
        asked="a fact with another body",
    ),
    _fault(
        "an answer is for another request",
        (
            requests.request_hash,
            "invocation_cid + body_hash",
            "body_hash + invocation_cid",
        ),
        group="releases",
        asked="the answer's requestHash",
    ),
    _fault(
        "a machine token opens every key of the network",
        (grounds.path_lists_in_force, "elif holder.paths:", "elif False:"),
        group="machine-tokens",
        asked="ask for a key that is not stored at its path",
    ),
    _fault(
        "a withdrawn party gets keys",
        (gate.admit, "_check_withdrawn(request, standing.links, evidence)", "pass"),
        group="machine-tokens",
        asked="ask for the key after that",
    ),
    _fault(
        "a delegate states the policy",
        (
            owner_policy.change_in_person,
            "if relied_on is None or _is_withdrawn(record, withdrawals_row.value, invocation):",
            "relied_on = relied_on or ()\n        if False:",
        ),
        group="policies",
        asked="a delegate states a policy",
    ),
    _fault(
        "an ID token for another service is exchanged",
        (exchange._exchange, _SAME_KEY, "if False:"),
        group="exchanges",
        asked="an ID token for another audience",
    ),
    _fault(
        "an old ID token is exchanged",
        (exchange._exchange, "_check_times(id_token, now)", "pass"),
        group="exchanges",
        asked="an ID token that lives for two days",
    ),
    _fault(
        "an answer's signature is over something else",
        (
            release.open_key,
            "keyring.node_signer.sign(canonical_members(answer))",
            'keyring.node_signer.sign(canonical_members({**answer, "keyVersion": 0}))',
        ),
        group="releases",
        asked="the answer's signature",
    ),
    _fault(
        "a receipt's signature is over something else",
        (receipt.signed_text, "signer.sign(signed)", 'signer.sign(signed + b" ")'),
        group="receipts",
        asked="the receipt's signature",
    ),
    _fault(
        "reads of copies leave no trace",
        (
            copy_fetches.is_copy,
            "return path.startswith(SHARED_PREFIX) and space.name == SECRETS_SPACE",
            "return False",
        ),
        group="sharing",
        asked="the owner lists who read copies",
    ),
    _fault(
        "a nonce may be short",
        (
            signed_descriptor.is_nonce,
            "MIN_NONCE_BYTES <= len(nonce)",
            "0 <= len(nonce)",
        ),
        group="networks",
        asked="a nonce of 15 bytes",
    ),
    _fault(
        "a nonce is used twice",
        (
            requests.admin_nonce_key,
            "nonce.encode()",
            'nonce.encode() + __import__("secrets").token_bytes(16)',
        ),
        group="networks",
        asked="a request with a nonce that was used",
    ),
    _fault(
        "a list has what is beside the grant",
        (
            listing.below,
            'return path if path == "" or path.endswith("/") else f"{path}/"',
            "return path",
        ),
        group="rights",
        asked="list with a grant of a folder, beside a longer name",
    ),
    _fault(
        "a stolen session replaces a network's key",
        (
            key_statements.read_key_change,
            "read_shaped(data, KEY_STATEMENT_TYPE, KeyChange, signer=network.owner)",
            "read_shaped(data, KEY_STATEMENT_TYPE, KeyChange,"
            ' signer=__import__("json").loads(data)["signer"])',
        ),
        group="rotation",
        asked="a statement signed by the session",
    ),
    _fault(
        "a key of the owner's choice is announced, and another one installed",
        (
            key_versions._check_statement,
            "if change.pin.public_key != candidate.public_key:",
            "if False:",
        ),
        group="rotation",
        asked="a statement with a key that is not the candidate",
    ),
    _fault(
        "a statement replaces a key that it does not name",
        (key_versions._check_statement, "if not change.follows(newest):", "if False:"),
        group="rotation",
        asked="a statement that replaces another key",
    ),
    _fault(
        "the candidate is signed for another nonce",
        (rotation.candidate_json, "nonce=nonce)", 'nonce="A" * 43)'),
        group="rotation",
        asked="the owner asks for a candidate",
    ),
    _fault(
        "a value of a former version does not open",
        (release.open_key, "key_version=body.key_version)", "key_version=network.key_version)"),
        group="rotation",
        asked="a value of the former version",
    ),
    _fault(
        "a retiring version takes new values",
        (
            retired_keys._check_versions,
            'raise Refusal("key-retiring", former.key_version, record.key_version)',
            "pass",
        ),
        group="rotation",
        asked="store another value of the retiring version",
    ),
    _fault(
        "a retired version keeps its private key",
        (
            rotation.with_key_destroyed,
            'replace(former, sealed_private_key=None, state="retired", changed_at=timestamp(now))',
            "replace(former, changed_at=timestamp(now))",
        ),
        group="rotation",
        asked="a value of the retired version",
    ),
    _fault(
        "a session is not bound to its quote",
        (
            attest._check_binding,
            'facts[0].get("bodyHash") == decoded.body_hash',
            "True",
        ),
        group="attestation",
        asked="a session with the hash of another body",
    ),
    _fault(
        "a nonce is good for every backend",
        (
            challenge._mac,
            "joined(LABEL, random, expiry, scope.holder, scope.audience, scope.store_id)",
            "joined(LABEL, random, expiry, scope.audience, scope.store_id)",
        ),
        group="attestation",
        asked="a nonce that was made for another key",
    ),
    _fault(
        "a nonce serves for two quotes",
        (attest._use_challenge, "if snapshot.is_first_use is False:", "if False:"),
        group="attestation",
        asked="the same nonce again",
    ),
    _fault(
        "a quote of another request is accepted",
        (
            report_data.check_report_data,
            "not hmac.compare_digest(actual, expected)",
            "False",
        ),
        group="attestation",
        asked="a quote for another request",
    ),
)
