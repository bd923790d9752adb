"""Rules S1 to S10: ReCaps."""

from dataclasses import replace

import fixed_vectors as fixed
import libipld
import msgspec
import pytest
from capability_cases import KV, OWNER, SPACE, base58, message

from capabilities.cacao import encode_cacao, header_text, sign_cacao
from capabilities.capability_errors import MalformedToken
from capabilities.recap import (
    PREFIX,
    Recap,
    attach,
    encode_recap,
    parse_recap,
    recap_of,
    recap_sentence,
)
from capabilities.tokens import parse_delegation, verify_delegation

GET = {KV: {"tinycloud.kv/get": [{}]}}
SENTENCE = "I further authorize the stated URI to perform the following actions on my behalf:"


def uri(body: bytes) -> str:
    return PREFIX + libipld.encode_multibase("u", body)[1:]


def of(body: object) -> str:
    return uri(msgspec.json.encode(body))


def signed(siwe):
    return verify_delegation(parse_delegation(header_text(encode_cacao(sign_cacao(siwe, OWNER)))))


def test_S1_only_the_last_resource_counts():
    """A ReCap that is not the last resource is ignored and needs no sentence."""
    recap = encode_recap(Recap({KV: {"tinycloud.kv/get": [{}]}}, ()))
    assert signed(message(resources=(recap, "x:a"))).capabilities == ()
    assert signed(message(resources=(recap.replace("urn:recap", "URN:recap"),))).capabilities == ()
    assert signed(message()).capabilities == ()
    assert signed(message()).parents == ()


def test_S2_both_members_are_required():
    """`att` and `prf` are required; further members are ignored."""
    assert Recap({KV: {"tinycloud.kv/get": [{}]}}, ()) == parse_recap(
        of({"att": GET, "prf": [], "x": 1})
    )
    for body in ({"att": GET}, {"prf": []}, {}):
        with pytest.raises(MalformedToken):
            parse_recap(of(body))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "!",
        "e30=",
        "e31",
        "e30",
        libipld.encode_multibase("u", b'{"att":{},"prf":[]} x')[1:],
        libipld.encode_multibase("u", b"[{},[]]")[1:],
        libipld.encode_multibase("u", b'\xef\xbb\xbf{"att":{},"prf":[]}')[1:],
        libipld.encode_multibase("u", b'{"att":{},"prf":[],"x":"\xff"}')[1:],
        libipld.encode_multibase("u", b'{"att":{},"prf":[],"x":' + b"[" * 100 + b"]" * 100 + b"}")[
            1:
        ],
        libipld.encode_multibase(
            "u", b'{"att":{},"prf":[],"x":' + b"[" * 5000 + b"]" * 5000 + b"}"
        )[1:],
    ],
)
def test_S2_Q35_what_is_no_recap(text):
    """Padding, spare bits, arrays, other text and deep nesting are rejected."""
    with pytest.raises(MalformedToken):
        parse_recap(PREFIX + text)


def test_S3_any_json_is_read():
    """Spaces and the order of members do not matter."""
    assert Recap({}, ()) == parse_recap(uri(b' { "prf" : [ ] , "att" : { } } '))


@pytest.mark.parametrize(
    "body",
    [
        b'{"att":{},"att":{},"prf":[]}',
        b'{"att":{},"prf":[],"prf":[]}',
        b'{"att":{},"\\u0061tt":{},"prf":[]}',
    ],
)
def test_S4_T7_repeated_members_are_refused(body):
    """A repeated `att` or `prf` is rejected, also with escapes in its name."""
    with pytest.raises(MalformedToken):
        parse_recap(uri(body))


def test_S4_last_of_a_repeated_resource_wins():
    """The last of equal names inside `att` counts."""
    body = b'{"att":{"x:a":{"a/b":[{}]},"x:a":{"a/c":[{}],"a/c":[{},{}]}},"prf":[]}'
    assert Recap({"x:a": {"a/c": [{}, {}]}}, ()) == parse_recap(uri(body))


@pytest.mark.parametrize(
    "att",
    [
        {KV: {"tinycloud.kv/get": []}},  # S4
        {KV: {"tinycloud.kv/get": {}}},
        {KV: {"tinycloud.kv/get": None}},
        {KV: {"tinycloud.kv/get": [None]}},
        {KV: {"tinycloud.kv/get": [{"k": 1}]}},  # S5
        {KV: {"tinycloud.kv/get": [{}, {"k": {}}]}},  # S5
        {KV: {"no-ability": [{}]}},  # A1
        {"no uri": {"tinycloud.kv/get": [{}]}},
        {KV: ["tinycloud.kv/get"]},
        [],
    ],
)
def test_S4_S5_what_att_may_not_hold(att):
    """An empty list, a caveat with a value, and an invalid ability or resource are rejected."""
    with pytest.raises(MalformedToken):
        parse_recap(of({"att": att, "prf": []}))


def test_S4_resource_without_ability_is_legal():
    """A resource without abilities grants nothing and is not in the sentence."""
    recap = parse_recap(of({"att": {KV: {}}, "prf": []}))
    assert recap_sentence(recap) == SENTENCE
    assert signed(attach(message(), recap)).capabilities == ()


def test_S5_null_caveats_are_dropped():
    """A wallet's caveats are null and dropped."""
    for caveats in (({"k": None},), [{}, {}], [{}]):
        delegation = signed(attach(message(), Recap({KV: {"tinycloud.kv/get": caveats}}, ())))
        assert [c.caveats for c in delegation.capabilities] == [{}]


def test_S6_proofs_are_in_base58():
    """A proof is a base58btc CID; other bases and version 0 are refused."""
    proof = base58(fixed.SESSION_CID)
    assert (proof,) == parse_recap(of({"att": {}, "prf": [proof]})).prf
    for other in (
        fixed.SESSION_CID,
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
        "zword",
        "",
        1,
    ):
        with pytest.raises(MalformedToken):
            parse_recap(of({"att": {}, "prf": [other]}))


def test_S6_S9_proofs_become_parents():
    """The parents of a wallet's grant are the ReCap's proofs."""
    delegation = signed(message({KV: ["tinycloud.kv/get"]}, prf=[base58(fixed.SESSION_CID)]))
    assert [parent.echo for parent in delegation.parents] == [fixed.SESSION_CID]


def test_S7_statement_ends_with_the_sentence():
    """The sentence has to be last, unchanged; any text may precede it."""
    good = message({KV: ["tinycloud.kv/get"]})
    assert good.statement is not None
    statement: str | None
    for statement in ("Hello. " + good.statement, "x" + good.statement):
        assert recap_of(replace(good, statement=statement)) is not None
    for statement in (
        None,
        "",
        good.statement + " ",
        good.statement[:-1],
        good.statement.replace("get", "put"),
    ):
        with pytest.raises(MalformedToken):
            recap_of(replace(good, statement=statement))


def test_S7_users_own_statement_comes_first():
    """One space separates the user's statement from the sentence."""
    assert attach(message(statement="Hello."), Recap({}, ())).statement == f"Hello. {SENTENCE}"


def test_S8_groups_and_order():
    """Resources are in byte order, with one group per namespace and sorted names."""
    att = {
        "x:b": {"k.v/b": [{}], "k.v/a": [{}], "a/z": [{}]},
        "x:B": {"k/a": [{}], "k-/b": [{}]},
    }
    assert recap_sentence(Recap(att, ())) == (
        f"{SENTENCE} (1) 'k': 'a' for 'x:B'. (2) 'k-': 'b' for 'x:B'. (3) 'a': 'z' for 'x:b'. "
        "(4) 'k.v': 'a', 'b' for 'x:b'."
    )


def test_S8_sentence_of_nothing():
    """With an empty `att` the sentence is only the introduction."""
    assert recap_sentence(Recap({}, ())) == SENTENCE


def test_S9_S10_what_a_wallets_grant_says():
    """Delegator, delegate and times come from the message, and the grant is never terminal."""
    delegation = signed(
        message(
            {KV: ["tinycloud.kv/get"]},
            expiration_time="2036-01-02T03:04:05Z",
            not_before="2026-01-01T00:00:00Z",
        )
    )
    assert OWNER.did == delegation.delegator
    assert "#" not in delegation.delegate
    assert delegation.issued_at == 1767323045
    assert delegation.not_before == 1767225600
    assert delegation.expires_at == 2082855845
    assert not delegation.terminal
    assert delegation.form == "cacao"


def test_T1_case_variants_are_merged():
    """Two spellings of one resource are merged into one capability (Q19)."""
    delegation = signed(
        message({KV: ["tinycloud.kv/get"], f"{SPACE.lower()}/kv": ["tinycloud.kv/get"]})
    )
    assert [(c.resource.text, c.ability) for c in delegation.capabilities] == [
        (KV, "tinycloud.kv/get")
    ]
