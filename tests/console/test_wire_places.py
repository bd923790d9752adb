"""Tests of the place inside sealed values, as the console's modules write and compare it (EN45)."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from browser import BrowserWallet
from console_wire import in_page
from embedded_node import EmbeddedNode
from loop_thread import LoopThread
from node_js import Scripts
from sealed_places import FOLDER, SealedPlaces

from capabilities.resources import parse_space_id
from capabilities.strict_json import Json
from sealspace.client import Client
from sealspace.documents.places import place_json, place_of, require_place
from sealspace.errors import InvalidSecretPayload, PlaceMismatch
from sealspace.session import key_session

WALLET = "0xA0Cf798816D4b9b9866b5330EEa46a18382f251e"
SPACE = parse_space_id(f"tinycloud:pkh:eip155:1:{WALLET}:secrets")
COPY = f"vault/secrets/shared/did:key:z6MkA/{'A' * 43}/API_KEY"
SECRET, NOTE = f"{FOLDER}API_KEY", f"{FOLDER}notes/API_KEY"
OTHER = f"{FOLDER}OTHER"
PLACE = place_json(place_of(SPACE, SECRET))
LOWER = WALLET.lower()
CHANGED: list[dict[str, Json]] = [
    {},
    {"owner": f"did:pkh:eip155:1:{LOWER}"},
    {"owner": f"did:pkh:eip155:01:{WALLET}"},
    {"owner": f"did:pkh:eip155:1:{WALLET}#controller"},
    {"owner": f"did:pkh:eip155:10:{WALLET}"},
    {"owner": "did:pkh:eip155:1:0x71C7656EC7ab88b098defB751B7401B5f6d8976F"},
    {"owner": "no did"},
    {"space": f"tinycloud:pkh:eip155:1:{LOWER}:secrets"},
    {"space": f"tinycloud:pkh:eip155:1:{LOWER}:default"},
    {"space": f"tinycloud:pkh:eip155:1:{LOWER}:secrets/kv"},
    {"space": "tinycloud:pkh:eip155:1:0x71C7656EC7ab88b098defB751B7401B5f6d8976F:secrets"},
    {"space": "no space"},
    {"path": OTHER},
    {"path": NOTE},
    {"path": f"{SECRET}/"},
    {"form": "note"},
    {"form": "copy"},
    {"form": "other"},
    {"form": 1},
    {"more": 1},
]
OTHERS: list[Json] = [None, "", [], {}, True, 1, [PLACE], {"path": SECRET}, {**PLACE, "path": None}]
REVEAL = """
  const secrets = await at("secrets"), { Client } = await at("client");
  const client = Client((await signedIn()).held);
"""


@pytest.fixture
def values(loop: LoopThread, node: EmbeddedNode, wallet: BrowserWallet) -> SealedPlaces:
    """The sealed values of the scripts' owner."""
    return SealedPlaces(loop, node, wallet)


def judged(stated: Json) -> str:
    """Return the code with which the SDK refuses a place; empty if it accepts the place."""
    try:
        require_place(stated, place_of(SPACE, SECRET))
    except (InvalidSecretPayload, PlaceMismatch) as refused:
        return {"InvalidSecretPayload": "payload-broken"}.get(type(refused).__name__, refused.code)
    return ""


def test_EN45_places_are_judged_as_the_sdk_judges_them(shared_scripts: Scripts) -> None:
    """Another spelling is the same place, another place is a mismatch, and anything else is not a
    place."""
    stated: list[Json] = [*({**PLACE, **changed} for changed in CHANGED), *OTHERS]
    paths = [SECRET, f"{FOLDER}scoped/mail/API_KEY", NOTE, COPY]
    answers, places = in_page(
        shared_scripts,
        """
        const { placeOf, requirePlace } = await at("places");
        const codes = await Promise.all(given.stated.map((one) => caught(async () => {
          requirePlace(one, placeOf(given.space, given.path));
          return { code: "" };
        })));
        return [codes.map(({ code }) => code), given.paths.map((path) => placeOf(given.space, path))];
        """,
        {"stated": stated, "space": SPACE.text, "path": SECRET, "paths": paths},
    )
    assert answers == [judged(one) for one in stated]
    assert set(answers) == {"", "place-mismatch", "payload-broken"}
    assert places == [place_json(place_of(SPACE, path)) for path in paths]


def test_EN45_what_the_console_seals_states_its_place(
    scripts: Scripts, values: SealedPlaces, loop: LoopThread, node: EmbeddedNode
) -> None:
    """Secrets, notes, several secrets at once and copies for a person state their place, and the
    SDK reads them as bound."""
    friend = key_session(values.did.encode()[-31:] + b"p")

    async def with_friend(work: Callable[[Client], Awaitable[Any]]) -> Any:
        async with Client(node.url, session=friend) as client:
            return await work(client)

    async def share(owner: Client) -> None:
        await owner.secrets().put("OTHER", "by the SDK")
        await owner.sharing.share(["OTHER"], friend.did, wallet=lambda: values.signer)

    loop.run(with_friend(lambda client: client.encryption.ensure_network()))
    values.own(share)
    in_page(
        scripts,
        REVEAL
        + """
        const { putMany, renewCopies } = await at("shares");
        await secrets.put(client, null, "API_KEY", "open sesame");
        const [secret] = (await secrets.list(client)).filter(({ name }) => name === "API_KEY");
        await secrets.putNote(client, secret, "from the dashboard", null);
        await putMany(client, [{ ...secrets.secretName("mail", "MANY"), value: "1" },
          { ...secrets.secretName(null, "OTHER"), value: "by the console" }]);
        """,
    )
    for path, form in ((SECRET, "secret"), (NOTE, "note"), (f"{FOLDER}scoped/mail/MANY", "secret")):
        assert values.plaintext(path)["place"] == values.place(path, form)

    async def received(client: Client) -> tuple[object, bool]:
        secret = await (await client.sharing.received(values.did)).read("OTHER")
        return secret.value, secret.is_bound

    assert values.is_bound("API_KEY")
    assert loop.run(with_friend(received)) == ("by the console", True)


@pytest.mark.parametrize("label", ["changed", "removed", "kept"])
def test_EN45_the_envelope_of_another_secret_is_refused(
    scripts: Scripts, values: SealedPlaces, label: str
) -> None:
    """The attack: a writer of one path stores another secret's envelope there, with its label
    changed or removed. Notes are no exception."""
    values.own(lambda owner: owner.secrets().put("OTHER", "another"))
    for target in (SECRET, NOTE):
        labels = {"changed": values.label(target), "removed": None, "kept": values.label(OTHER)}
        values.move(OTHER, target, label=labels[label])
    codes = in_page(
        scripts,
        REVEAL
        + """
        const [secret] = (await secrets.list(client)).filter(({ name }) => name === "API_KEY");
        const works = [() => secrets.reveal(client, null, "API_KEY"), () => secrets.noteOf(client, secret),
          () => secrets.reveal(client, null, "OTHER").then(({ value, isBound }) => ({ code: [value, isBound] }))];
        return Promise.all(works.map(async (work) => (await caught(work)).code));
        """,
    )
    refused = "label-mismatch" if label == "kept" else "place-mismatch"
    assert codes == [refused, refused, ["another", True]]


def test_EN45_a_moved_copy_is_refused(
    scripts: Scripts, values: SealedPlaces, loop: LoopThread, node: EmbeddedNode
) -> None:
    """A copy that the console made is refused under another name, and as a secret of the person."""
    friend = key_session(values.did.encode()[-31:] + b"c")

    async def share(owner: Client) -> list[str]:
        async with Client(node.url, session=friend) as client:
            await client.encryption.ensure_network()
        await owner.secrets().put_many({"API_KEY": "one", "OTHER": "two"})
        await owner.sharing.share(["API_KEY", "OTHER"], friend.did, wallet=lambda: values.signer)
        return [path async for path in owner.kv("secrets").list(f"{FOLDER}shared/")]

    paths = {path.rpartition("/")[2]: path for path in values.own(share)}
    in_page(
        scripts,
        REVEAL
        + """
        const { putMany } = await at("shares");
        await putMany(client, ["API_KEY", "OTHER"].map((name) => ({ ...secrets.secretName(null, name), value: name })));
        """,
    )
    values.move(paths["OTHER"], paths["API_KEY"], label=values.label(paths["API_KEY"]))

    async def read(name: str) -> object:
        async with Client(node.url, session=friend) as client:
            return await (await client.sharing.received(values.did)).get(name)

    assert loop.run(read("OTHER")) == "OTHER"
    with pytest.raises(PlaceMismatch):
        loop.run(read("API_KEY"))


@pytest.mark.parametrize("stated", OTHERS)
def test_EN45_a_malformed_place_is_not_an_absent_one(
    scripts: Scripts, values: SealedPlaces, stated: Json
) -> None:
    """A place that cannot be read is refused, and is not shown as unbound."""
    values.unbound(SECRET, place=stated)
    found = in_page(
        scripts, REVEAL + "return caught(() => secrets.reveal(client, null, 'API_KEY'))"
    )
    assert found["code"] == "payload-broken"
    assert "open sesame" not in json.dumps(found)


def test_EN45_a_copy_of_another_owner_is_not_a_secret(
    scripts: Scripts, values: SealedPlaces
) -> None:
    """A copy is sealed to the reader's own network, so only its place shows that it is no secret of
    the reader."""
    for form, path in (("copy", SECRET), ("secret", COPY), ("copy", COPY)):
        values.unbound(
            SECRET, place={**values.place(path, form), "owner": f"did:pkh:eip155:1:{WALLET}"}
        )
        script = REVEAL + "return caught(() => secrets.reveal(client, null, 'API_KEY'))"
        assert in_page(scripts, script)["code"] == "place-mismatch"


CHECK = (
    REVEAL
    + """
  const unbound = await at("unbound");
  const all = await secrets.list(client);
  const found = await unbound.check(client, all, all, () => {});
"""
)


def test_CN14_an_unbound_value_is_bound_as_it_is(scripts: Scripts, values: SealedPlaces) -> None:
    """Value, type, times of creation and other members stay; notes are bound too; a value that
    states its place is not written."""
    generated = {"type": "hex32", "at": "2026-01-01T00:00:00Z", "tag": "A" * 43}
    values.unbound(SECRET, "AP8=", encoding="base64", generated=generated, more=[1])
    values.unbound(NOTE, "from the dashboard")
    values.own(lambda owner: owner.secrets().put("OTHER", "bound"))
    before = values.plaintext(SECRET)
    stored = values.plaintext(OTHER)
    found = in_page(
        scripts,
        CHECK
        + """
        for (const one of found) await unbound.bind(client, one);
        const again = await unbound.check(client, all, all, () => {});
        return [found, again].map((some) => some.map(({ value, isBound, twins, writers }) => [value.path, isBound, twins, writers]));
        """,
    )
    assert found[0] == [[SECRET, False, [], []], [NOTE, False, [], []], [OTHER, True, [], []]]
    assert [one[1] for one in found[1]] == [True, True, True]
    after = values.plaintext(SECRET)
    assert after.pop("updatedAt") != before.pop("updatedAt")
    assert after == {**before, "place": values.place(SECRET, "secret")}
    assert values.plaintext(NOTE)["place"] == values.place(NOTE, "note")
    assert values.is_bound("API_KEY")
    assert values.own(lambda owner: owner.secrets().get("API_KEY")) == b"\x00\xff"
    assert values.plaintext(OTHER) == stored


def test_CN14_a_copied_envelope_is_not_bound(scripts: Scripts, values: SealedPlaces) -> None:
    """The same wrapped key, ciphertext or content key at two paths is found, also if the other
    value is not opened; and binding refuses the value."""
    values.unbound(OTHER, "another")
    values.move(OTHER, SECRET, label=None)
    values.unbound(f"{FOLDER}ALONE")
    found, refused = in_page(
        scripts,
        CHECK
        + """
        const [one] = await unbound.check(client, all, all.filter(({ name }) => name === "API_KEY"), () => {});
        const refused = await caught(() => unbound.bind(client, one));
        return [[one, ...found].map(({ value, twins }) => [value.path, twins]), refused.code];
        """,
    )
    alone = [f"{FOLDER}ALONE", []]
    assert found == [[SECRET, [OTHER]], alone, [SECRET, [OTHER]], [OTHER, [SECRET]]]
    assert refused == "place-mismatch"
    assert "place" not in values.plaintext(SECRET)


def test_CN14_a_copy_of_a_former_value_is_not_bound(scripts: Scripts, values: SealedPlaces) -> None:
    """A copied envelope is found after the value that it was copied from was replaced (RL23)."""
    values.unbound(OTHER, "another")
    values.move(OTHER, SECRET, label=None)
    values.own(lambda owner: owner.secrets().put("OTHER", "replaced"))
    found, refused = in_page(
        scripts,
        CHECK
        + """
        const one = found.find(({ value }) => value.name === "API_KEY");
        const refused = await caught(() => unbound.bind(client, one));
        return [one.twins, refused?.code];
        """,
    )
    assert (found, refused) == ([OTHER], "place-mismatch")
    assert "place" not in values.plaintext(SECRET)


@pytest.mark.parametrize("part", ["key", "ciphertext", "content key"])
def test_CN14_each_part_of_a_copied_envelope(
    scripts: Scripts, values: SealedPlaces, part: str
) -> None:
    """Somebody who opens an envelope can wrap its key again, or seal another text with it. What is
    left of the envelope shows the copy."""
    values.unbound(OTHER, "another")
    values.own(lambda owner: owner.secrets().put("FIRST", "1"))
    twins = in_page(
        scripts,
        REVEAL
        + """
        const unbound = await at("unbound"), kv = await at("kv"), { networkId } = await at("did");
        const { parseEnvelope, wrapKey } = await at("envelope"), { canonicalHash } = await at("canonical_json");
        const { base64, concat, random, utf8 } = await at("bytes"), { descriptor } = await at("encryption");
        const { stored, contentKey, network, payload } = await secrets.openedWhole(client, secrets.secretName(null, "OTHER"));
        const envelope = await parseEnvelope(stored.body);
        const { publicEncryptionKey } = await descriptor(client, network);
        const iv = random(12), key = await crypto.subtle.importKey("raw", contentKey, "AES-GCM", false, ["encrypt"]);
        const text = utf8(JSON.stringify({ ...payload, value: "changed" }));
        const ciphertext = base64(concat(iv, new Uint8Array(await crypto.subtle.encrypt({ name: "AES-GCM", iv }, key, text))));
        const encryptedSymmetricKey = base64(await wrapKey(contentKey, publicEncryptionKey));
        const made = { ...envelope, ...(given === "key" ? {} : { encryptedSymmetricKey, encryptedSymmetricKeyHash: await canonicalHash(encryptedSymmetricKey) }),
          ...(given === "ciphertext" ? {} : { ciphertext }) };
        delete made.aad;
        await kv.put(client, secrets.spaceOf(client), "vault/secrets/API_KEY", JSON.stringify(made));
        const all = await secrets.list(client);
        const wanted = given === "content key" ? all : all.filter(({ name }) => name === "API_KEY");
        const found = await unbound.check(client, all, wanted, () => {});
        return found.find(({ value }) => value.name === "API_KEY").twins;
        """,
        part,
    )
    assert twins == [OTHER]


def test_CN14_a_value_that_changes_before_it_is_bound(
    scripts: Scripts, values: SealedPlaces
) -> None:
    """A value that was stored after the check is not bound, also if it is unbound itself."""
    values.unbound(SECRET)
    refused = in_page(
        scripts,
        CHECK
        + """
        const kv = await at("kv"), { encrypt } = await at("encryption"), { utf8 } = await at("bytes");
        const { network, payload } = await secrets.openedWhole(client, all[0]);
        const other = await encrypt(client, network, utf8(JSON.stringify({ ...payload, value: "another" })));
        await kv.put(client, secrets.spaceOf(client), all[0].path, other);
        const early = await caught(() => unbound.bind(client, found[0]));
        const [again] = await unbound.check(client, all, all, () => {});
        const real = window.fetch;
        window.fetch = async (path, sent) => {
          if (String(new TextDecoder().decode(sent?.body)).includes('"ciphertext"')) {
            window.fetch = real;
            await kv.put(client, secrets.spaceOf(client), all[0].path, other.replace('"v":1', '"v": 1'));
          }
          return real(path, sent);
        };
        const late = await caught(() => unbound.bind(client, again));
        return [early.code, late.code];
        """,
    )
    assert refused == ["conflict", "conflict"]
    assert values.plaintext(SECRET)["value"] == "another"
    assert "place" not in values.plaintext(SECRET)


def test_CN14_an_unbound_value_is_not_copied(
    scripts: Scripts, values: SealedPlaces, loop: LoopThread, node: EmbeddedNode
) -> None:
    """Sharing an unbound value, and storing an unbound former value of a shared secret again, are
    refused; nothing is signed, and the copies stay."""
    friend = key_session(values.did.encode()[-31:] + b"u")

    async def share(owner: Client) -> None:
        async with Client(node.url, session=friend) as client:
            await client.encryption.ensure_network()
        await owner.secrets().put("SHARED", "second")
        await owner.sharing.share(["SHARED"], friend.did, wallet=lambda: values.signer)

    values.unbound(SECRET)
    values.unbound(f"{FOLDER}SHARED", "first")
    values.own(share)
    codes = in_page(
        scripts,
        REVEAL
        + """
        const { share } = await at("sharing"), { rollback } = await at("versions"), { shares } = await at("shares");
        const [name, shared] = ["API_KEY", "SHARED"].map((one) => secrets.secretName(null, one));
        const asked = { secrets: [name], did: given, team: null, expiresS: 600 };
        const codes = [await caught(() => share(client, null, asked)), await caught(() => rollback(client, shared, 1))];
        return [codes.map(({ code }) => code), (await shares(client)).map(({ secrets }) => secrets.map(({ name }) => name))];
        """,
        friend.did,
    )
    assert codes == [["unbound-value", "unbound-value"], [["SHARED"]]]
    assert values.own(lambda owner: owner.secrets().get("SHARED")) == "second"


def test_EN45_a_former_value_of_another_secret_is_not_stored_again(
    scripts: Scripts, values: SealedPlaces
) -> None:
    """An earlier version that is another secret's envelope is refused before it is stored."""
    values.own(lambda owner: owner.secrets().put("OTHER", "another"))
    values.move(OTHER, SECRET, label=None)
    values.own(lambda owner: owner.secrets().put("API_KEY", "right"))
    script = """
      const { rollback } = await at("versions");
      return caught(() => rollback(client, secrets.secretName(null, "API_KEY"), 1));
    """
    assert in_page(scripts, REVEAL + script)["code"] == "place-mismatch"
    assert values.own(lambda owner: owner.secrets().get("API_KEY")) == "right"
