"""Tests of registered delegations: rows, lookups, indexes and revocation marks."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from space_grants import (
    DAY_S,
    FRIEND,
    HOUR_S,
    NOW,
    OWNER,
    STRANGER,
    WALLET,
    cacao,
    registered,
    space_text,
    ucan,
)

from capabilities.chain import Marker, Registered
from capabilities.cids import Digest, cid_text
from capabilities.facts import statement_resource
from capabilities.principals import Principal
from capabilities.resources import parse_space_id
from capabilities.sign_ins import MAX_LIFE_S
from capabilities.tokens import Delegation
from spaces.grants.delegation_cache import Delegations
from spaces.grants.delegations import (
    MAX_SPACES,
    alias_put,
    cid_at,
    contents_of,
    decode_delegation,
    membership_range,
    party_range,
    party_rows,
    registration_puts,
    sort_key_at,
    sort_key_of,
    space_grants_range,
    unexpired_of,
)
from spaces.grants.revocations import (
    Revoked,
    marker_keys,
    markers_of,
    revocation_of,
    revocation_put,
)
from spaces.grants.sessions import sessions_range
from spaces.keyspace import ROLE_FROM, ROLE_TO, delegation_key, party_key, x16
from spaces.space_errors import RecordDamaged, TooManySpaces
from spaces.store.contract import Commit, Committed, Put, Range, Record, Refused, Store

SPACE = space_text(OWNER.did)
FILES = {f"{SPACE}/kv/photos": ["tinycloud.kv/get"]}
OWN_FILES = {f"{space_text(WALLET.did)}/kv": ["tinycloud.kv/get"]}


async def register(store: Store, found: Registered, *, now: float = NOW) -> Committed | Refused:
    return await store.commit(
        Commit(puts=tuple(registration_puts(replace(found, registered_at=now))))
    )


async def indexed(store: Store, wanted: Range) -> tuple[bytes, ...]:
    return contents_of((await store.read(ranges=(wanted,))).pages[0])


def fresh(store: Store) -> Delegations:
    return Delegations(store)


async def test_registered_delegation_is_found_by_cid(one_store: Store) -> None:
    """A registered delegation is read back unchanged, with its closure and validity window."""
    parent = registered(ucan(FILES))
    child = registered(
        ucan(
            FILES, signer=FRIEND, delegate=STRANGER.did, parents=[parent.delegation], lifetime_s=60
        ),
        parent,
    )
    assert isinstance(await register(one_store, parent), Committed)
    assert isinstance(await register(one_store, child), Committed)
    found = await fresh(one_store).by_cid(
        [child.delegation.cid, None, parent.delegation.cid, Digest(b"?" * 32)]
    )
    assert (child, None, parent, None) == found
    assert len(found[0].closure) == 2
    assert found[0].expires_at == NOW + 60


async def test_second_lookup_needs_no_read(one_store: Store) -> None:
    """A delegation that was decoded once is found in memory."""
    known = registered(ucan(FILES))
    await register(one_store, known)
    delegations = fresh(one_store)
    await delegations.by_cid([known.delegation.cid])
    await one_store.close()
    assert (known,) == await delegations.by_cid([known.delegation.cid])


async def test_misses_are_reported(one_store: Store) -> None:
    """Each cited delegation that was not in memory counts as a cache miss."""
    known = registered(ucan(FILES))
    await register(one_store, known)
    delegations = fresh(one_store)
    assert delegations.misses == 0
    assert delegations.memory_bytes == 0
    cids = [known.delegation.cid, Digest(b"\x07" * 32), None]
    for misses in (2, 3):
        await delegations.by_cid(cids)
        assert delegations.misses == misses
    await delegations.by_cid(cids[:1])
    assert delegations.misses == 3
    assert delegations.memory_bytes > len(known.delegation.header)


async def test_unknown_delegation_is_asked_again(one_store: Store) -> None:
    """The absence of a delegation is not cached."""
    known = registered(ucan(FILES))
    delegations = fresh(one_store)
    assert await delegations.by_cid([known.delegation.cid]) == (None,)
    await register(one_store, known)
    assert (known,) == await delegations.by_cid([known.delegation.cid])


async def test_alias_leads_to_the_same_delegation(one_store: Store) -> None:
    """Another spelling of a known delegation is another cid of it (Q25)."""
    known = registered(ucan(FILES))
    await register(one_store, known)
    other = Digest(b"\x07" * 32)
    await one_store.commit(Commit(puts=(alias_put(other, known.delegation.content_key),)))
    assert (known,) == await fresh(one_store).by_cid([other])


async def test_second_registration_is_refused(one_store: Store) -> None:
    """A second registration of one delegation is refused."""
    known = registered(ucan(FILES))
    assert isinstance(await register(one_store, known), Committed)
    assert isinstance(await register(one_store, known), Refused)


async def test_revocation_replaces_the_mark_and_outlives_the_row(one_store: Store) -> None:
    """A revoked delegation cannot be registered again, even after its row was removed (ST2,
    W25)."""
    known = registered(ucan(FILES))
    content = known.delegation.content_key
    await register(one_store, known)
    keys = marker_keys([content])
    assert {content: Marker.LIVE} == markers_of([content], (await one_store.read(keys)).records)
    revoked = Revoked(cid=Digest(b"\x09" * 32), at=NOW + 5, by=Principal(OWNER.did))
    assert isinstance(
        await one_store.commit(Commit(puts=(revocation_put(content, revoked),), live=keys)),
        Committed,
    )
    records = (await one_store.read(keys)).records
    assert {content: Marker.REVOKED} == markers_of([content], records)
    assert revoked == revocation_of(records[0])
    assert isinstance(await one_store.commit(Commit(live=keys)), Refused)
    await one_store.commit(Commit(puts=(Put(delegation_key(content), None),)))
    assert isinstance(await register(one_store, known), Refused)


async def test_unknown_mark_is_left_out(one_store: Store) -> None:
    """A delegation that is not registered has no mark."""
    content = ucan(FILES).content_key
    assert markers_of([content], (await one_store.read(marker_keys([content]))).records) == {}
    assert revocation_of(None) is None


@pytest.mark.parametrize("value", [b"", b"R", b"LL", b"R" + b"." * 32, b"X" * 60])
def test_damaged_mark_is_not_live(value: bytes) -> None:
    """A malformed mark counts as revoked; a query for the revoker reports the damage."""
    content = ucan(FILES).content_key
    record = Record(value, b"." * 16)
    assert {content: Marker.REVOKED} == markers_of([content], [record])
    with pytest.raises(RecordDamaged):
        revocation_of(record)


async def test_parties_find_their_delegations(one_store: Store) -> None:
    """Signer and recipient find a delegation: latest issued first, undated ones last, by cid."""
    dated = [
        registered(cacao(OWN_FILES, nonce=f"nonce000{at}", issued_at=NOW + at)) for at in (0, 1)
    ]
    undated = [registered(ucan(FILES, nonce=str(at))) for at in range(3)]
    for known in (*dated, *undated):
        await register(one_store, known)
    by_cid = sorted(undated, key=lambda known: cid_text(known.delegation.cid))
    expected = tuple(known.delegation.content_key for known in (dated[1], dated[0], *by_cid))
    friend = Principal(FRIEND.did)
    assert expected == await indexed(one_store, party_range(friend, ROLE_TO))
    assert expected[2:] == await indexed(one_store, party_range(Principal(OWNER.did), ROLE_FROM))
    assert await indexed(one_store, party_range(friend, ROLE_FROM)) == ()
    for at, known in enumerate((dated[1], dated[0], *by_cid), 1):
        after = sort_key_of(known.delegation)
        assert expected[at:] == await indexed(one_store, party_range(friend, ROLE_TO, after=after))
        assert cid_text(known.delegation.cid).encode() == cid_at(after)


async def test_a_place_is_where_the_row_stands(one_store: Store) -> None:
    """A page returns each row's place, by which the row can be found again."""
    known = registered(ucan(FILES))
    await register(one_store, known)
    place = sort_key_of(known.delegation)
    key = party_key(x16(OWNER.did), ROLE_FROM, place)
    assert place == sort_key_at(key)
    assert (await one_store.read((key,))).records[0] is not None
    page = (await one_store.read(ranges=(party_range(Principal(OWNER.did), ROLE_FROM),))).pages[0]
    assert ((place, known.delegation.content_key),) == party_rows(page)


async def test_owners_find_what_was_passed_on(one_store: Store) -> None:
    """A delegation is listed for every wallet and space owner above it, but not for keys that only
    pass it on."""
    root = registered(cacao(OWN_FILES))
    child = registered(
        ucan(OWN_FILES, signer=FRIEND, delegate=STRANGER.did, parents=[root.delegation]), root
    )
    grandchild = registered(
        ucan(
            OWN_FILES,
            signer=STRANGER,
            delegate=OWNER.did,
            parents=[child.delegation],
            lifetime_s=60,
        ),
        child,
    )
    wallet = Principal(WALLET.did)
    for known in (root, child, grandchild):
        await register(one_store, known)
    assert (wallet,) == root.accounts == child.accounts == grandchild.accounts
    found = await indexed(one_store, party_range(wallet, ROLE_FROM))
    assert {
        root.delegation.content_key,
        child.delegation.content_key,
        grandchild.delegation.content_key,
    } == {*found}
    assert (child.delegation.content_key,) == await indexed(
        one_store, party_range(Principal(FRIEND.did), ROLE_FROM)
    )


@pytest.mark.parametrize(
    ("resource", "ability", "opens"),
    [
        (f"{SPACE}/delegation", "tinycloud.delegation/list", True),
        (f"{SPACE}/delegation/", "tinycloud.delegation/list", True),
        (f"{SPACE}/delegation/x", "tinycloud.delegation/list", False),
        (f"{SPACE}/delegation?x", "tinycloud.delegation/list", False),
        (f"{SPACE}/delegation#x", "tinycloud.delegation/list", False),
        (f"{SPACE}/kv", "tinycloud.delegation/list", False),
        (f"{SPACE}/delegation", "tinycloud.delegation/status", False),
    ],
)
async def test_who_may_list_an_account_is_known(
    one_store: Store, resource: str, ability: str, opens: bool
) -> None:
    """A key with the right to list a space's delegations belongs to the account of the space's
    owner."""
    await register(one_store, registered(ucan({resource: [ability]})))
    owner, friend = Principal(OWNER.did), Principal(FRIEND.did)
    assert opens is bool(await indexed(one_store, membership_range(owner, friend)))
    assert await indexed(one_store, membership_range(friend, owner)) == ()


async def test_space_finds_what_has_not_expired(one_store: Store) -> None:
    """Delegations that name a space are listed latest registered first, the expired ones left
    out."""
    short = registered(ucan(FILES, lifetime_s=100))
    long = registered(ucan(FILES, lifetime_s=200))
    await register(one_store, long, now=NOW)
    await register(one_store, short, now=NOW + 1)
    page = (await one_store.read(ranges=(space_grants_range(parse_space_id(SPACE)),))).pages[0]
    both = (short.delegation.content_key, long.delegation.content_key)
    assert both == unexpired_of(page, now=NOW + 99)
    assert both[1:] == unexpired_of(page, now=NOW + 100)
    assert unexpired_of(page, now=NOW + 200) == ()
    rest = (
        await one_store.read(
            ranges=(space_grants_range(parse_space_id(SPACE), after=page.rows[0][0]),)
        )
    ).pages[0]
    assert both[1:] == unexpired_of(rest, now=NOW)


async def test_delegation_without_expiry_is_listed_for_ever(one_store: Store) -> None:
    """A delegation without an expiry never expires."""
    await register(one_store, registered(cacao(OWN_FILES, lifetime_s=None)))
    page = (
        await one_store.read(ranges=(space_grants_range(parse_space_id(space_text(WALLET.did))),))
    ).pages[0]
    assert len(unexpired_of(page, now=NOW + 1e9)) == 1


def test_delegation_with_too_many_spaces() -> None:
    """A delegation may name 64 spaces; the rows of more would not fit a commit (ST6)."""

    def naming(count: int) -> Registered:
        return registered(
            ucan(
                {
                    f"{space_text(OWNER.did, f's{at}')}/kv": ["tinycloud.kv/get"]
                    for at in range(count)
                }
            )
        )

    assert 64 < len(registration_puts(naming(MAX_SPACES))) < 128
    with pytest.raises(TooManySpaces):
        registration_puts(naming(MAX_SPACES + 1))


READ = "tinycloud.capabilities/read"
OWN = f"{space_text(WALLET.did)}/capabilities/all"


def sign_in(ability: str = READ, **more: Any) -> Delegation:
    return cacao({OWN: [ability]}, delegate=FRIEND.did_url, **more)


IN_PERSON = {
    "a wallet's sign-in": (sign_in(), True),
    "one that lasts thirty days": (sign_in(lifetime_s=MAX_LIFE_S), True),
    "one that lasts longer": (sign_in(lifetime_s=MAX_LIFE_S + 1), False),
    "an old one": (sign_in(lifetime_s=HOUR_S, issued_at=NOW - MAX_LIFE_S), False),
    "one by a clock that is ahead": (sign_in(issued_at=NOW + HOUR_S / 2), True),
    "a grant that names the DID": (cacao({OWN: [READ]}), False),
    "one with a policy": (sign_in(resources=(statement_resource({}),)), False),
    "one without an end": (sign_in(lifetime_s=None), False),
    "one without the ability": (sign_in("tinycloud.capabilities/other"), False),
    "a key's grant": (ucan({f"{SPACE}/capabilities/all": [READ]}), False),
}


@pytest.mark.parametrize(("delegation", "expected"), IN_PERSON.values(), ids=IN_PERSON)
async def test_sessions_granted_in_person(
    one_store: Store, delegation: Delegation, expected: bool
) -> None:
    """Only a wallet's own bounded sign-in is a session in person (IP2)."""
    await register(one_store, registered(delegation))
    found = await indexed(one_store, sessions_range(delegation.delegator, Principal(FRIEND.did)))
    assert ((delegation.content_key,) if expected else ()) == found


async def test_cache_is_bounded_in_bytes(one_store: Store) -> None:
    """The least recently used delegations are evicted first, and the estimated size never exceeds
    the limit."""
    found = [registered(ucan(FILES, nonce=str(at), lifetime_s=DAY_S)) for at in range(30)]
    cache = Delegations(one_store, max_bytes=100_000)
    for known in found:
        cache.add(known)
        assert found[0] == cache.cached(found[0].delegation.content_key)
        assert cache.memory_bytes <= 100_000
    held = [known for known in found if cache.cached(known.delegation.content_key)]
    assert found[0] in held
    assert found[-1] in held
    assert 2 < len(held) < 30


async def test_aliases_in_the_cache_are_bounded_too(one_store: Store) -> None:
    """Other spellings of delegations cannot fill the memory."""
    cache = Delegations(one_store, max_bytes=10_000)
    known = registered(ucan(FILES))
    for at in range(200):
        cache.add(known, Digest(at.to_bytes(32, "big")))
        assert cache.memory_bytes <= 10_000
    assert (known,) == await cache.by_cid([Digest((199).to_bytes(32, "big"))])
    assert await cache.by_cid([Digest(bytes(32))]) == (None,)


def row_of(header: str, closure: list[bytes]) -> bytes:
    """Return a row as delegations are stored, with any content."""
    return msgspec.msgpack.encode((header, closure, None, None, NOW, [], []))


WHOLE = registered(ucan(FILES))
MEMBERS = [member.content_key + member.cid for member in WHOLE.closure]


def test_row_is_laid_out_so() -> None:
    """The damaged rows of the next test have the right encoding and wrong contents."""
    found = decode_delegation(Record(row_of(WHOLE.delegation.header, MEMBERS), b"." * 16))
    assert found is not None
    assert found.closure == WHOLE.closure


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x95",
        b"\x95\xa1a\x90\xc0\xc0\xcb" + b"\0" * 8,
        b"\xff" * 50,
        row_of(WHOLE.delegation.header, []),
        row_of(WHOLE.delegation.header, [*MEMBERS, bytes(63)]),
        row_of(WHOLE.delegation.header[:-9], MEMBERS),
        row_of("", MEMBERS),
    ],
)
def test_damaged_row_is_reported(value: bytes) -> None:
    """A stored delegation that cannot be decoded raises its own error."""
    with pytest.raises(RecordDamaged):
        decode_delegation(Record(value, b"." * 16))
