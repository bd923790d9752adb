"""Properties of encoding, parsing and containment for all values."""

import capability_strategies as draw
import libipld
from capability_cases import NOW, World, message
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from capabilities.abilities import satisfies
from capabilities.cacao import Cacao, encode_cacao, header_bytes, header_text, parse_cacao
from capabilities.capability_errors import CapabilityError, ChainError
from capabilities.cids import parse_cid
from capabilities.principals import principal_of, same_principal
from capabilities.recap import Recap, attach, encode_recap, parse_recap, recap_of
from capabilities.resources import extends, parse_network_id, parse_resource, parse_space_id
from capabilities.siwe import siwe_text
from capabilities.tokens import parse_delegation
from capabilities.ucan import UcanPayload, encode_ucan, parse_ucan, verify_ucan

few = settings(max_examples=60, deadline=None)


@given(draw.resource)
def test_resources_render_as_they_are_read(resource):
    """Parsing a rendered resource gives the same resource."""
    assert resource == parse_resource(resource.text)


@given(draw.space, draw.network)
def test_ids_render_as_they_are_read(space, network):
    """Parsing a rendered space or network id gives the same id."""
    assert space == parse_space_id(space.text)
    assert network == parse_network_id(network.text)


@given(draw.resource)
def test_containment_is_reflexive(resource):
    """A grant on a resource covers that resource."""
    assert extends(resource, resource)


@given(draw.space_resource, draw.space_resource, draw.space_resource)
def test_containment_is_transitive(a, b, c):
    """Containment of resources in spaces is transitive."""
    b = type(b)(a.space, a.service, b.path, b.query, a.fragment)
    c = type(c)(a.space, a.service, c.path, c.query, a.fragment)
    if extends(a, b) and extends(b, c):
        assert extends(a, c)


@given(draw.opaque, draw.opaque, draw.opaque)
def test_containment_of_opaque_resources_is_transitive(a, b, c):
    """Containment of opaque resources is transitive."""
    if extends(a, b) and extends(b, c):
        assert extends(a, c)


@given(draw.ability, draw.ability, draw.ability)
def test_satisfaction_is_reflexive_and_transitive(a, b, c):
    """Satisfaction of abilities is reflexive and transitive."""
    assert satisfies(a, a)
    if satisfies(a, b) and satisfies(b, c):
        assert satisfies(a, c)


@given(st.text())
def test_principals_are_idempotent(text):
    """The principal of a principal is itself, for any text."""
    principal = principal_of(text)
    assert principal == principal_of(principal)
    assert same_principal(text, text)


@given(draw.cid, st.sampled_from("bBfFzumkvU"))
def test_cids_in_any_base(cid, base):
    """A CID is parsed to the same value from every multibase."""
    assert cid == parse_cid(cid.text())
    assert cid == parse_cid(libipld.encode_multibase(base, libipld.decode_multibase(cid.text())[1]))


@given(draw.payload)
@few
def test_ucans_are_read_as_they_are_written(payload):
    """An encoded UCAN is parsed back unchanged and verifies."""
    token = parse_ucan(encode_ucan(payload, draw.SIGNERS[0]))
    assert payload == token.payload
    verify_ucan(token)


@given(draw.payload, st.integers(0), st.sampled_from("ABCxyz019-_.= \n"))
@few
def test_a_changed_token_does_not_verify(payload, position, character):
    """A token with any one character replaced is rejected or fails verification."""
    header = encode_ucan(payload, draw.SIGNERS[0])
    position %= len(header)
    assume(header[position] != character)
    try:
        verify_ucan(parse_ucan(header[:position] + character + header[position + 1 :]))
    except CapabilityError:
        return
    raise AssertionError("a changed token verifies")


@given(draw.message, st.binary(min_size=65, max_size=65))
@few
def test_cacaos_are_read_as_they_are_written(siwe, signature):
    """An encoded CACAO is canonical and is parsed back unchanged, also from its text form."""
    data = encode_cacao(Cacao(siwe, signature))
    assert Cacao(siwe, signature) == parse_cacao(data)
    assert data == encode_cacao(parse_cacao(data))
    assert data == header_bytes(header_text(data))


@given(draw.message, draw.message)
@few
def test_one_text_has_one_set_of_fields(one, other):
    """Two messages with the same text have the same fields."""
    assert (siwe_text(one) == siwe_text(other)) == (one == other)


@given(draw.recap)
@few
def test_recaps_are_read_as_they_are_written(drawn):
    """An encoded ReCap is parsed back unchanged, and its sentence is the required one."""
    recap = Recap(
        drawn.att,
        tuple(
            libipld.encode_multibase("z", libipld.decode_multibase(c.text())[1]) for c in drawn.prf
        ),
    )
    assert recap == parse_recap(encode_recap(recap))
    assert recap == recap_of(attach(message(), recap))
    assert encode_recap(recap) == encode_recap(parse_recap(encode_recap(recap)))


@given(draw.att, draw.att)
@settings(max_examples=150, deadline=None)
def test_no_child_covers_more_than_its_parent(outer, inner):
    """A registered child's capabilities are the owner's own or covered by a parent."""
    owner, holder, receiver = draw.SIGNERS[0], draw.SIGNERS[2], draw.SIGNERS[3]
    world = World()

    def grant(signer, audience, att, *prf):
        payload = UcanPayload(
            iss=signer.did_url, aud=audience.did, exp=NOW + 60, prf=list(prf), att=att
        )
        return encode_ucan(payload, signer)

    try:
        parent = world.register(grant(owner, holder, outer))
        child = world.judge(grant(holder, receiver, inner, parent)).delegation
    except ChainError:
        return
    held = world.delegation(parent).capabilities
    for capability in child.capabilities:
        assert any(
            extends(capability.resource, row.resource)
            and satisfies(row.ability, capability.ability)
            for row in held
        )
        assert all(
            row.resource.space.owner == owner.did for row in held if hasattr(row.resource, "space")
        )


@given(draw.att)
@few
def test_capabilities_are_sorted_and_distinct(att):
    """Capabilities are sorted and distinct, in whatever order the text has them."""
    payload = UcanPayload(
        iss=draw.SIGNERS[0].did_url, aud=draw.SIGNERS[1].did, exp=1, prf=[], att=att
    )
    keys = [
        (c.resource.text, c.ability)
        for c in parse_delegation(encode_ucan(payload, draw.SIGNERS[0])).capabilities
    ]
    assert keys == sorted(set(keys))
    assert set(keys) == {
        (resource, ability) for resource, abilities in att.items() for ability in abilities
    }
