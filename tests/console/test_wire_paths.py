"""The console's modules at a real node, compared with the SDK on the same spaces."""

import json

from browser import Browser, BrowserWallet, Page
from console_wire import in_page
from embedded_node import EmbeddedNode
from loop_thread import LoopThread
from node_js import Scripts

from capabilities.ucan import parse_ucan
from encryption_network.canonical_json import canonical_bytes
from encryption_network.requests import decrypt_fact
from sealspace.client import Client


def test_sign_in_and_values(
    page: Page, wallet: BrowserWallet, node: EmbeddedNode, browser: Browser
) -> None:
    """After one signature, the console and the SDK read and write the same values."""
    said = in_page(
        page,
        """
        const kv = await at("kv"), { Client } = await at("client"), { text, utf8 } = await at("bytes");
        const { owner, held } = await signedIn();
        const client = Client(held);
        const etag = await kv.put(client, "default", "todo/1", "buy milk", { ifAbsent: true });
        const rival = await caught(() => kv.put(client, "default", "todo/1", "x", { ifAbsent: true }));
        const older = '"blake3-' + "0".repeat(64) + '"';
        const stale = await caught(() => kv.put(client, "default", "todo/1", "x", { ifMatch: older }));
        const moved = [];
        const large = new Uint8Array(300000).fill(7);
        const onProgress = (sent) => moved.push(sent);
        await kv.put(client, "default", kv.keyOf("a b/ä"), large, { type: "image/png", onProgress });
        const read = await kv.get(client, "default", "todo/1");
        const back = await kv.get(client, "default", kv.keyOf("a b/ä"));
        await kv.putMany(client, "default", new Map([["many/1", "one"], ["many/2", "two"]]));
        const many = await kv.getMany(client, "default", ["many/1", "many/2", "many/3"]);
        const keys = await kv.list(client, "default");
        await kv.remove(client, "default", "many/1", { ifMatch: many.get("many/1").etag });
        return { owner: owner.did, etag, rival: rival.code, stale: stale.code, moved: moved.at(-1),
          read: text(read.body), type: read.contentType, same: read.etag === etag,
          back: [back.body.length, back.contentType, kv.nameOf(keys[0])],
          many: [...many].map(([key, value]) => [key, text(value.body)]), keys,
          gone: (await caught(() => kv.get(client, "default", "many/1"))).code,
          other: (await caught(() => kv.get(client, "photos", "x"))).details.missing };
        """,
    )
    space = f"tinycloud:{wallet.signer.did[4:]}"
    assert said["owner"] == wallet.signer.did
    assert len(wallet.asked) == 1
    assert said["read"] == "buy milk"
    assert said["type"] == "text/plain;charset=UTF-8"
    assert said["same"] is True
    assert said["rival"] == "conflict"
    assert said["stale"] == "conflict"
    assert said["gone"] == "not-found"
    assert said["moved"] == 300000
    assert said["back"] == [300000, "image/png", "a b/ä"]
    assert said["keys"] == ["a%20b/%C3%A4", "many/1", "many/2", "todo/1"]
    assert said["many"] == [["many/1", "one"], ["many/2", "two"]]
    assert said["other"] == [{"resource": f"{space}:photos/kv/x", "ability": "tinycloud.kv/get"}]

    async def beside() -> tuple[bytes, list[str]]:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer)
            read = await client.kv().get("many/2")
            return read.body, [key async for key in client.kv().list("todo/")]

    assert browser.run(beside()) == (b"two", ["todo/1"])
    method, path, headers, _ = page.requests[0]
    assert method == "GET"
    assert path == "/info"
    assert "authorization" not in headers
    assert "cookie" not in headers


def test_secrets_of_either_side_are_read_by_the_other(
    scripts: Scripts, wallet: BrowserWallet, node: EmbeddedNode, loop: LoopThread
) -> None:
    """The SDK opens secrets of the browser, and the browser those of the SDK, as texts and
    bytes."""

    async def written() -> None:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer)
            await client.encryption.ensure_network()
            await client.secrets().put("FROM_SDK", "grüße")
            await client.secrets().put("CERT", b"\x00\xff", scope="mail")

    loop.run(written())
    said = in_page(
        scripts,
        """
        const secrets = await at("secrets"), { Client } = await at("client");
        const { held } = await signedIn();
        const client = Client(held);
        const etag = await secrets.put(client, null, "FROM_BROWSER", "open sesame");
        await secrets.put(client, "Mail Box", "KEY", Uint8Array.of(1, 2, 3));
        const many = [{ scope: null, name: "M1", value: "a" }, { scope: "mail", name: "M2", value: "b" }];
        await secrets.putMany(client, many);
        const stale = await caught(() => secrets.put(client, null, "FROM_BROWSER", "x", { ifAbsent: true }));
        const [sdk, cert, own] = await Promise.all([secrets.reveal(client, null, "FROM_SDK"),
          secrets.reveal(client, "mail", "CERT"), secrets.reveal(client, null, "FROM_BROWSER")]);
        const labels = (await secrets.list(client)).map(({ label }) => label);
        await secrets.removeListed(client, secrets.secretName(null, "M1"));
        return { sdk: sdk.value, cert: [...cert.value], own: own.value, same: own.etag === etag,
          stale: stale.code, labels, absent: (await caught(() => secrets.reveal(client, null, "M1"))).code,
          wrong: (await caught(() => secrets.reveal(client, null, "lower"))).code, pins: held.pins.length };
        """,
    )
    assert said["sdk"] == "grüße"
    assert said["cert"] == [0, 255]
    assert said["own"] == "open sesame"
    assert said["same"] is True
    assert said["stale"] == "conflict"
    assert said["labels"] == [
        "FROM_BROWSER",
        "FROM_SDK",
        "M1",
        "mail-box/KEY",
        "mail/CERT",
        "mail/M2",
    ]
    assert said["absent"] == "not-found"
    assert said["wrong"] == "invalid-input"
    assert said["pins"] == 1

    async def read() -> tuple[object, ...]:
        async with Client(node.url) as client:
            await client.sign_in(wallet.signer)
            secrets = client.secrets()
            return (
                await secrets.get("FROM_BROWSER"),
                await secrets.get("KEY", scope="mail-box"),
                await secrets.get("M2", scope="mail"),
            )

    assert loop.run(read()) == ("open sesame", b"\x01\x02\x03", "b")
    sent = json.dumps(
        [[path, headers, (body or b"").hex()] for _, path, headers, body in scripts.requests]
    )
    assert "sesame" not in sent
    assert b"open sesame".hex() not in sent


def test_a_first_secret_makes_the_network(scripts: Scripts) -> None:
    """The first secret creates the owner's network without any other step."""
    said = in_page(
        scripts,
        """
        const secrets = await at("secrets"), { Client } = await at("client");
        const { held } = await signedIn();
        await secrets.put(Client(held), null, "FIRST", "value");
        return (await secrets.reveal(Client(held), null, "FIRST")).value;
        """,
    )
    assert said == "value"
    sent = {
        path.rpartition("/")[2]: (headers, body)
        for method, path, headers, body in scripts.requests
        if body
    }
    headers, body = sent["decrypt"]
    asked = json.loads(body or b"")
    assert body == canonical_bytes(asked)
    claims = parse_ucan(headers["authorization"]).payload
    assert claims.fct == [decrypt_fact(asked)]
    assert claims.aud == asked["targetNode"]
    assert claims.att == {asked["networkId"]: {"tinycloud.encryption/decrypt": [{}]}}


def test_a_session_is_kept_and_its_key_stays(page: Page) -> None:
    """A reload restores the session without a signature. Its key cannot be exported, and signing
    out deletes it."""
    in_page(page, "await signedIn();")
    page.browser.run(page.tab.reload())
    said = in_page(
        page,
        """
        const kv = await at("kv"), { Client } = await at("client");
        const held = await session.restore();
        const listed = await kv.list(Client(held), "default");
        const exported = await crypto.subtle.exportKey("pkcs8", held.keys.privateKey).catch((error) => error.name);
        const moved = await caught(() => kv.list(Client({ ...held, node: held.did }), "default"));
        const ended = await caught(() => kv.list(Client({ ...held, expiresAt: 1 }), "default"));
        await session.signOut();
        const open = indexedDB.open.bind(indexedDB);
        indexedDB.open = () => { throw new DOMException("denied", "SecurityError"); };
        const denied = await caught(() => session.restore());
        indexedDB.open = open;
        const after = await session.restore();
        return { denied: denied.code, listed, exported, moved: moved.code, ended: ended.code, after };
        """,
    )
    assert said == {
        "denied": "storage-unavailable",
        "listed": [],
        "exported": "InvalidAccessError",
        "moved": "node-changed",
        "ended": "session-expired",
        "after": None,
    }


def test_what_wallets_answer(scripts: Scripts, wallet: BrowserWallet) -> None:
    """The module tells a wallet's refusal, another account and another chain apart."""
    wallet.refusal = (4001, "User rejected the request.")
    assert in_page(scripts, "return (await caught(() => signedIn())).code") == "wallet-rejected"
    wallet.refusal = None
    said = in_page(
        scripts,
        """
        const [info] = await discover();
        const owner = await connect(info);
        const real = info.provider.request.bind(info.provider);
        const codes = [];
        const others = [{ eth_accounts: ["0x" + "11".repeat(20)] }, { eth_chainId: "0x5" }, { personal_sign: "0x00" }];
        for (const other of others) {
          info.provider.request = async (asked) => other[asked.method] ?? real(asked);
          codes.push((await caught(() => session.signIn(owner))).code);
        }
        return codes;
        """,
    )
    assert said == ["wallet-account-changed", "wallet-other-chain", "wallet-failed"]
    assert [path for method, path, _, _ in scripts.requests if method == "POST"] == []


def test_spaces_and_further_rights(scripts: Scripts, wallet: BrowserWallet) -> None:
    """A space is created, and one more signature gives the session the right to its values."""
    said = in_page(
        scripts,
        """
        const spaces = await at("spaces"), kv = await at("kv"), { Client } = await at("client");
        const { owner, held } = await signedIn();
        const client = Client(held);
        await client.invoke(session.rows(`${held.space}/space/notes`, ["tinycloud.space/create"]));
        const made = await spaces.get(client, "notes");
        const before = await caught(() => kv.list(client, "notes"));
        await session.addRights(held, owner, session.wholeSpace(made.id));
        await kv.put(client, "notes", "a", "b");
        return { made: made.name, before: before.code, names: (await spaces.list(client)).map(({ name }) => name),
          keys: await kv.list(client, "notes") };
        """,
    )
    assert said["made"] == "notes"
    assert said["before"] == "not-authorised"
    assert {"default", "notes", "secrets"} <= set(said["names"])
    assert said["keys"] == ["a"]
    assert len(wallet.asked) == 2
