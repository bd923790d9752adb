"""Parsing of tokens from headers (E1 to E9, T2, T7, V1 to V5)."""

import copy

import fixed_vectors as fixed
import msgspec
import pytest
from blake3 import blake3
from capability_cases import BOB, KV, NOW, OWNER, SESSION, SPACE, base58, cacao, message, ucan
from tests_support import coded

from capabilities.cacao import encode_cacao, header_bytes, header_text, sign_cacao
from capabilities.capability_errors import BadSignature, ChainError, MalformedToken, WrongKind
from capabilities.cids import Cid, cid_text, digest_of, parse_cid
from capabilities.facts import ATTESTATION_URN, statement_resource
from capabilities.references import MAX_PARENTS, MAX_TARGETS
from capabilities.strict_json import Json
from capabilities.tokens import (
    MAX_CAPABILITIES,
    MAX_FACTS,
    MAX_HEADER_BYTES,
    check_window,
    parse_delegation,
    parse_invocation,
    parse_revocation,
    restore_delegation,
    verify_delegation,
    verify_revocation,
)

TARGET = fixed.SESSION_CID


def target_urn(cid: str = TARGET) -> dict[str, list[str]]:
    return {f"urn:cid:{cid}": ["tinycloud.delegation/revoke"]}


def test_E2_E4_a_dot_decides_the_format():
    """A text with a dot is parsed as a UCAN, and any other text as a CACAO."""
    wallet = cacao({})
    assert parse_delegation(wallet).form == "cacao"
    assert parse_delegation(ucan(SESSION, BOB.did, {})).form == "ucan"
    with pytest.raises(MalformedToken):
        parse_invocation(wallet)
    with pytest.raises(MalformedToken):
        parse_delegation("." + wallet)


def test_E5_size_is_bounded_before_anything_is_read():
    """A header above the size limit is rejected before it is parsed."""
    for parse in (parse_delegation, parse_invocation, parse_revocation):
        with pytest.raises(MalformedToken, match="too large"):
            parse("A" * (MAX_HEADER_BYTES + 1))
        with pytest.raises(MalformedToken, match="ASCII"):
            parse("é")


def test_E6_E7_event_bytes_and_ids():
    """The id covers a UCAN's text, or a CACAO's decoded bytes."""
    wallet, token = cacao({}), ucan(SESSION, BOB.did, {})
    assert blake3(header_bytes(wallet)).digest() == parse_delegation(wallet).cid
    for parsed in (parse_delegation(token), parse_invocation(token)):
        assert blake3(token.encode()).digest() == parsed.cid
    revoked = cacao(None, uri=f"ucan:{TARGET}")
    assert blake3(header_bytes(revoked)).digest() == parse_revocation(revoked).cid
    revoked = ucan(SESSION, SESSION.did, target_urn())
    assert blake3(revoked.encode()).digest() == parse_revocation(revoked).cid


def test_E9_reserialised_token_is_another_content():
    """Two differently serialised tokens of one issuer are two grants."""
    one, other = (
        parse_delegation(ucan(SESSION, BOB.did, {}, include_jwk=jwk)) for jwk in (True, False)
    )
    assert one.cid != other.cid
    assert one.content_key != other.content_key
    again = parse_invocation(ucan(SESSION, BOB.did, {}))
    assert one.content_key == again.content_key


def test_I20_a_use_is_of_what_was_signed():
    """Two signatures over one text by one issuer count as one use."""
    token = ucan(SESSION, BOB.did, {})
    forged = token.rpartition(".")[0] + "." + "A" * 86
    assert parse_invocation(token).content_key == parse_invocation(forged).content_key
    assert (
        parse_invocation(token).content_key
        != parse_invocation(ucan(SESSION, BOB.did, {}, nnc="n")).content_key
    )


def test_T2_caveats_are_kept_by_index():
    """Caveat lists are stored as maps by index."""
    delegation = parse_delegation(
        ucan(SESSION, BOB.did, {KV: {"a/b": [{"a": 1}, {}], "a/c": [{}]}})
    )
    assert [c.caveats for c in delegation.capabilities] == [{"0": {"a": 1}, "1": {}}, {}]


def test_A2_T7_capabilities_are_in_sorted_order():
    """Capabilities are sorted by resource text, then by ability."""
    att = {
        f"{SPACE}/sql/b": ["z/z"],
        f"{SPACE}/kv/b": ["b/b", "a/a"],
        f"{SPACE}/kv": ["c/c"],
        "urn:x:y": ["a/a"],
    }
    expected = [(r, a) for r in sorted(att) for a in sorted(att[r])]
    for parsed in (parse_invocation(ucan(SESSION, BOB.did, att)), parse_delegation(cacao(att))):
        assert expected == [(c.resource.text, c.ability) for c in parsed.capabilities]


def test_Q19_case_variants_are_merged():
    """Spellings of one resource are merged, or rejected if their caveats differ."""
    lower = f"{SPACE.lower()}/kv"
    delegation = parse_delegation(ucan(SESSION, BOB.did, {KV: ["a/b"], lower: ["a/b", "a/c"]}))
    assert [(c.resource.text, c.ability) for c in delegation.capabilities] == [
        (KV, "a/b"),
        (KV, "a/c"),
    ]
    with pytest.raises(MalformedToken):
        parse_delegation(ucan(SESSION, BOB.did, {KV: ["a/b"], lower: {"a/b": [{"k": 1}]}}))


def test_U3_U16_unusual_resources_stay_opaque():
    """A URI outside spaces is kept; text that is not a URI makes the token undecodable."""
    odd = f"{SPACE}/kv/%61"
    assert [odd] == [
        c.resource.text
        for c in parse_delegation(ucan(SESSION, BOB.did, {odd: ["a/b"]})).capabilities
    ]
    with pytest.raises(MalformedToken):
        parse_delegation(ucan(SESSION, BOB.did, {f"{SPACE}/kv/a b": ["a/b"]}))


def test_counts_are_bounded():
    """The numbers of capabilities, proofs and facts are limited (2.7)."""
    assert (MAX_CAPABILITIES, MAX_PARENTS, MAX_FACTS) == (1024, 256, 256)
    many = {KV: [f"a/{number}" for number in range(MAX_CAPABILITIES)]}
    assert len(parse_delegation(ucan(SESSION, BOB.did, many)).capabilities) == MAX_CAPABILITIES
    wide = {f"{KV}/{number}": [] for number in range(MAX_CAPABILITIES + 1)}
    for att in ({**many, f"{KV}/x": ["a/b"]}, wide):
        with pytest.raises(MalformedToken):
            parse_delegation(ucan(SESSION, BOB.did, att))
    assert (
        len(parse_delegation(ucan(SESSION, BOB.did, {}, prf=[TARGET] * MAX_PARENTS)).parents)
        == MAX_PARENTS
    )
    with pytest.raises(MalformedToken):
        parse_delegation(ucan(SESSION, BOB.did, {}, prf=[TARGET] * (MAX_PARENTS + 1)))
    with pytest.raises(MalformedToken):
        parse_delegation(ucan(SESSION, BOB.did, {}, fct=[None] * (MAX_FACTS + 1)))


def test_E8_proofs_are_looked_up_by_hash():
    """A proof is found by its hash, in any multibase and codec."""
    cid = parse_cid(TARGET)
    other_hash = Cid(cid.codec, 0x12, cid.digest).text()
    token = ucan(
        SESSION,
        BOB.did,
        {},
        prf=[TARGET, TARGET.upper(), msgspec.structs.replace(cid, codec=0x71).text(), other_hash],
    )
    parents = parse_delegation(token).parents
    assert [cid.digest32, cid.digest32, cid.digest32, None] == [parent.digest for parent in parents]
    assert [TARGET, TARGET, TARGET, other_hash] == [parent.echo for parent in parents]


def test_terminal_fact():
    """The mode in any fact makes a grant terminal; other values do not (3.4)."""
    mode = "xyz.tinycloud.policy/delegationMode"
    for facts, terminal in (
        ([{mode: "terminal"}], True),
        ([1, {"a": 1}, {mode: "terminal", "b": 2}], True),
        ([{mode: "attenuable"}, [mode, "terminal"], "terminal"], False),
        ([], False),
    ):
        assert terminal == parse_delegation(ucan(SESSION, BOB.did, {}, fct=facts)).terminal


def test_policy_statements_of_a_wallet_are_facts():
    """A policy statement in a sign-in is parsed like a UCAN's fact."""
    statement: dict[str, Json] = {"b": [1, 2], "a": {"z": None}}
    resource = statement_resource(statement)
    assert resource == ATTESTATION_URN + "eyJhIjp7InoiOm51bGx9LCJiIjpbMSwyXX0"
    delegation = verify_delegation(
        parse_delegation(cacao({KV: ["a/b"]}, resources=("x:a", resource, resource)))
    )
    fact = {"sealspace.attestation/v1": statement}
    assert (fact, fact) == delegation.facts
    assert parse_delegation(cacao({KV: ["a/b"]})).facts == ()


@pytest.mark.parametrize(
    "resource",
    [
        ATTESTATION_URN,
        ATTESTATION_URN + "e31",
        ATTESTATION_URN + "e30=",
        ATTESTATION_URN + "W10",
        ATTESTATION_URN + "eyJhIjoxLCJhIjoyfQ",
        "urn:sealspace:attestation:v2:e30",
        "urn:sealspace:attestation:e30",
        "URN:sealspace:attestation:v1:e30",
    ],
)
def test_policy_statement_that_is_not_understood_refuses(resource):
    """A policy statement that cannot be parsed rejects the token."""
    with pytest.raises(MalformedToken):
        parse_delegation(cacao({KV: ["a/b"]}, resources=(resource,)))


def test_V1_V2_target_of_a_token():
    """A revocation's target is its resource, and its revoker is its signer."""
    revocation = parse_revocation(ucan(SESSION, SESSION.did, target_urn()))
    (target,) = revocation.targets
    assert (TARGET, parse_cid(TARGET).digest32, TARGET) == msgspec.structs.astuple(target)
    assert SESSION.did == revocation.revoker == revocation.addressee


@pytest.mark.parametrize(
    "att",
    [
        {f"urn:cid:{TARGET}": ["any/thing"]},
        {f"urn:cid:{TARGET}": ["tinycloud.delegation/status"]},
        {f"urn:cid:{TARGET}": ["tinycloud.delegation/revoke", "tinycloud.delegation/status"]},
        {KV: ["a/b"], **target_urn()},
        {"urn:cid:word": ["tinycloud.delegation/revoke"], **target_urn()},
    ],
)
def test_V1_a_revocation_does_nothing_else(att):
    """A token that requests more than revocation is not a revocation."""
    with pytest.raises(WrongKind):
        parse_revocation(ucan(SESSION, SESSION.did, att))


def several(number: int) -> dict[str, list[str]]:
    """Return rights to revoke this many delegations, not in sorted order."""
    cids = sorted((cid_text(digest_of(bytes([at]))) for at in range(number)), reverse=True)
    return {resource: right for cid in cids for resource, right in target_urn(cid).items()}


def test_V5_several_targets_in_the_order_of_the_text():
    """A token may have 32 targets, which keep their order."""
    for number in (2, MAX_TARGETS):
        att = several(number)
        assert sorted(att) != list(att)
        revocation = parse_revocation(ucan(SESSION, SESSION.did, att))
        assert [f"urn:cid:{target.echo}" for target in revocation.targets] == list(att)


@pytest.mark.parametrize(
    "spoilt",
    [
        {KV: ["tinycloud.delegation/revoke"]},
        {"urn:cid:word": ["tinycloud.delegation/revoke"]},
        {f"urn:cid:{TARGET}?a": ["tinycloud.delegation/revoke"]},
        {f"urn:cid:{TARGET}": ["tinycloud.delegation/status"]},
        {f"urn:cid:{TARGET}": ["tinycloud.delegation/revoke", "tinycloud.delegation/status"]},
        {f"urn:cid:{TARGET}": {}},
        {f"urn:cid:{TARGET}": {"tinycloud.delegation/revoke": [{}, {}]}},
        {f"urn:cid:{TARGET}": {"tinycloud.delegation/revoke": [{"until": 1}]}},
        {f"URN:cid:{TARGET}": ["tinycloud.delegation/revoke"]},
        {f"ucan:{TARGET}": ["tinycloud.delegation/revoke"]},
        {
            f"urn:cid:{spelling}": ["tinycloud.delegation/revoke"]
            for spelling in (TARGET, base58(TARGET))
        },
        {
            f"urn:cid:{msgspec.structs.replace(parse_cid(TARGET), codec=codec).text()}": [
                "tinycloud.delegation/revoke"
            ]
            for codec in (0x55, 0x71)
        },
        several(MAX_TARGETS),
    ],
)
def test_V5_one_bad_member_refuses_all(spoilt):
    """A malformed, foreign, repeated or 33rd target rejects the whole token."""
    good = several(MAX_TARGETS + 1) if len(spoilt) == MAX_TARGETS else several(2)
    for att in ({**good, **spoilt}, {**spoilt, **good}):
        with pytest.raises(WrongKind):
            parse_revocation(ucan(SESSION, SESSION.did, att))


def test_V3_a_wallet_revokes_without_a_recap():
    """A wallet's message with a ReCap is not a revocation."""
    assert parse_revocation(cacao(None, uri=f"ucan:{TARGET}")).addressee is None
    with pytest.raises(WrongKind):
        parse_revocation(cacao({KV: ["a/b"]}, uri=f"ucan:{TARGET}"))


def test_V1_W27_echo_keeps_the_codec():
    """The target is echoed in base32 with its own codec."""
    asked = msgspec.structs.replace(parse_cid(TARGET), codec=0x71).text()
    (target,) = parse_revocation(ucan(SESSION, SESSION.did, target_urn(base58(asked)))).targets
    assert base58(asked) == target.text
    assert target.echo == asked
    assert parse_cid(TARGET).digest32 == target.digest


@pytest.mark.parametrize(
    "att",
    [
        {},
        {KV: ["a/b"]},
        {f"{SPACE}/delegation/{TARGET}": ["tinycloud.delegation/revoke"]},
        {"urn:cid:word": ["a/b"]},
    ],
)
def test_V4_Q8_target_is_never_guessed(att):
    """A revocation without a target does not fall back to its proof."""
    with pytest.raises(MalformedToken):
        parse_revocation(ucan(SESSION, SESSION.did, att, prf=[TARGET]))


def test_V3_target_of_a_wallets_message():
    """The target of a wallet's revocation is the CID in its URI `ucan:<cid>`."""
    revocation = verify_revocation(parse_revocation(cacao(None, uri=f"ucan:{TARGET}")))
    assert OWNER.did == revocation.revoker
    assert revocation.targets[0].text == TARGET
    assert revocation.parents == ()
    for uri in (SESSION.did, "ucan:word", "ucan:", f"UCAN:{TARGET}", TARGET.join("x:")):
        with pytest.raises(MalformedToken):
            parse_revocation(cacao(None, uri=uri))


def test_revocation_times_and_signature():
    """A revocation has a window and a signature like other tokens."""
    late = parse_revocation(ucan(SESSION, SESSION.did, target_urn(), exp=NOW - 1))
    with pytest.raises(ChainError, check=coded("revocation-outside-window")):
        check_window(late, NOW)
    check_window(late, NOW - 1)
    wallet = parse_revocation(
        cacao(None, uri=f"ucan:{TARGET}", expiration_time="2026-01-01T00:00:00Z")
    )
    with pytest.raises(ChainError, check=coded("revocation-outside-window")):
        check_window(wallet, NOW)
    token = ucan(SESSION, SESSION.did, target_urn())
    with pytest.raises(BadSignature):
        verify_revocation(parse_revocation(token[:-4] + "AAAA"))


def test_restored_delegation_is_the_verified_one():
    """A stored delegation is restored without checking its signature again."""
    for header in (cacao({KV: ["a/b"]}), ucan(SESSION, BOB.did, {KV: ["a/b"]})):
        assert verify_delegation(parse_delegation(header)) == restore_delegation(header)


def test_tokens_do_not_print_themselves():
    """The representation of a token contains neither its text nor its signature."""
    wallet = header_text(encode_cacao(sign_cacao(message({}), OWNER)))
    token = ucan(SESSION, SESSION.did, target_urn())
    for parsed, header in (
        (parse_delegation(wallet), wallet),
        (parse_delegation(token), token),
        (parse_invocation(token), token),
        (parse_revocation(token), token),
        (parse_delegation(wallet).envelope, wallet),
        (parse_delegation(token).envelope, token),
    ):
        assert header[:20] not in repr(parsed)
        assert header[-20:] not in repr(parsed)


def test_tokens_are_values():
    """Equal texts give equal tokens, which are immutable."""
    header = ucan(SESSION, BOB.did, {KV: ["a/b"]})
    one = verify_delegation(parse_delegation(header))
    assert one == copy.copy(one)
    with pytest.raises(AttributeError):
        one.delegate = one.delegate  # type: ignore[misc]  # frozen
