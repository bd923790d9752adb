"""`sealspace dataset`, and the addresses of applications and data sets."""

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from backend_desk import Desk

from capabilities.abilities import KV_GET
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import decode_standard
from sealspace.cli.owner.owner_profile import read_wallet
from sealspace.cli.root import EXIT_STATUS
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.documents.dataset_format import decrypt, parse_dataset
from sealspace.documents.iexec_names import (
    AddressKind,
    address_of,
    dataset_secret,
    owner_record_key,
)
from sealspace.documents.project_names import ProjectId, parse_project
from sealspace.session import load_session

SOMEBODY = Ed25519Signer(bytes(range(32))).did
URL = "https://files.example/survey.enc"
PLAIN = b"name,age\nAda,36\n" * 9000


def survey(folder: Path) -> Path:
    (folder / "survey.csv").write_bytes(PLAIN)
    return folder / "survey.csv"


async def encrypted(desk: Desk, file: Path, *more: str) -> dict[str, Any]:
    ran = await desk.run("dataset", "encrypt", str(file), "--json", *more)
    assert ran.status == 0, ran
    found: dict[str, Any] = json.loads(ran.out)
    return found


async def of_owner(desk: Desk, name: str) -> ProjectId:
    whoami = json.loads((await desk.run("whoami", "--json")).out)
    return parse_project(f"{whoami['owner']}/{name}")


def reader(desk: Desk) -> Client:
    return Client(desk.node, session=load_session(desk.home / "session.json"))


async def owner_record(desk: Desk, client: Client, kind: AddressKind, address: str) -> bytes:
    kv, key = client.kv("secrets"), owner_record_key(kind, address)
    wallet = read_wallet(desk.home / "wallet.key")
    await client.delegations.add_right(wallet, [allow(f"{kv.space.text}/kv/{key}", KV_GET)])
    return (await kv.get(key)).body


@pytest.mark.parametrize("form", ["authenticated", "iexec"])
async def test_a_data_set_is_encrypted_published_and_its_key_stored(
    desk: Desk, tmp_path: Path, form: str
) -> None:
    """DS7, DS8, DS9: statement, owner record and key are where tasks look for them."""
    await desk.log_in("--space", "public")
    made = await encrypted(desk, survey(tmp_path), "--format", form)
    publish = ("dataset", "publish", "survey", made["encrypted"], "--url", URL, "--json")
    ran = await desk.run(*publish)
    assert ran.status == 0, ran
    said = json.loads(ran.out)
    dataset = await of_owner(desk, "survey")
    address = address_of("dataset", dataset)
    assert said["address"] == address and said["checksum"] == made["checksum"]

    pushed = await desk.run("dataset", "push-key", "survey", made["key"])
    assert pushed.status == 0, pushed
    secret = dataset_secret(address)
    text = (await desk.run("secret", "get", secret.name, "--scope", str(secret.scope))).out
    assert text == Path(made["key"]).read_text()

    async with reader(desk) as client:
        stored = (await client.kv("public").get("datasets/survey")).body
        record = parse_dataset(stored, dataset)
        assert record.url == URL
        assert record.checksum == made["checksum"]
        assert record.suite == made["suite"]
        assert await owner_record(desk, client, "dataset", address) == b'{"dataset":"survey"}'

    # Published again, and the key once only.
    again = (*publish[:5], f"{URL}?2", "--json")
    assert json.loads((await desk.run(*again)).out)["address"] == address
    refused = await desk.run("dataset", "push-key", "survey", made["key"])
    assert refused.status == EXIT_STATUS["already-there"]


async def test_an_application_has_an_address(desk: Desk, tmp_path: Path) -> None:
    """DS8: `project publish --app` records the project of the address, and can be repeated."""
    await desk.log_in("--space", "public")
    (tmp_path / "p.wasm").write_bytes(wasmtime.wat2wasm('(module (func (export "_start")))'))
    publish = ("project", "publish", "digest", str(tmp_path / "p.wasm"), "--app")
    for _ in range(2):
        ran = await desk.run(*publish, "--json")
        assert ran.status == 0, ran
        address = json.loads(ran.out)["address"]
    assert address == address_of("app", await of_owner(desk, "digest"))
    assert f"address {address}" in (await desk.run(*publish)).err
    async with reader(desk) as client:
        assert await owner_record(desk, client, "app", address) == b'{"project":"digest"}'


@pytest.mark.parametrize("form", ["authenticated", "iexec"])
async def test_files_of_an_encryption(desk: Desk, tmp_path: Path, form: str) -> None:
    """DS6: both files are readable by their owner alone; nothing is replaced without `--force`."""
    file = survey(tmp_path)
    made = await encrypted(desk, file, "--format", form)
    blob, key = Path(made["encrypted"]), Path(made["key"])
    assert made["checksum"] == f"0x{hashlib.sha256(blob.read_bytes()).hexdigest()}"
    assert [made["originalSizeBytes"], made["sizeBytes"]] == [len(PLAIN), blob.stat().st_size]
    assert {stat.S_IMODE(one.stat().st_mode) for one in (blob, key)} == {0o600}
    assert blob.name == "survey.csv.enc"
    assert key.name == "survey.csv.key"
    secret = decode_standard(key.read_text())
    assert secret is not None and len(secret) == 32
    with blob.open("rb") as stream:
        assert b"".join(decrypt(made["suite"], secret, stream.read)) == PLAIN

    before = blob.read_bytes(), key.read_bytes()
    for left in ((blob, key), (key,), (blob,)):
        for one, data in zip((blob, key), before, strict=True):
            one.unlink(missing_ok=True)
            if one in left:
                one.write_bytes(data)
        refused = await desk.run("dataset", "encrypt", str(file))
        assert refused.status == 2 and "the file already exists" in refused.err, refused
        assert [one.read_bytes() for one in (blob, key) if one.exists()] == [
            data for one, data in zip((blob, key), before, strict=True) if one in left
        ]
    again = await encrypted(desk, file, "--format", form, "--force")
    assert again["checksum"] != made["checksum"] and key.read_bytes() != before[1]
    assert sorted(one.name for one in tmp_path.glob("survey*")) == [
        "survey.csv",
        "survey.csv.enc",
        "survey.csv.key",
    ]
    assert not list(tmp_path.glob(".survey*"))


async def test_what_cannot_be_encrypted_or_published(desk: Desk, tmp_path: Path) -> None:
    """DS1, DS6, DS7: folders, plaintext, other keys, addresses and signers are refused."""
    await desk.log_in("--space", "public")
    folder = await desk.run("dataset", "encrypt", str(tmp_path))
    assert folder.status == 2 and "it is a folder" in folder.err, folder
    file = survey(tmp_path)
    (tmp_path / "odd").write_bytes(PLAIN + b"?")
    plain = await desk.run("dataset", "publish", "odd", str(tmp_path / "odd"), "--url", URL)
    assert plain.status != 0 and "not an encrypted data set" in plain.err, plain
    made = await encrypted(desk, file)
    for url in ("http://files.example/x", "ftp://x", "https://", "https://a b", "https://é"):
        ran = await desk.run("dataset", "publish", "survey", made["encrypted"], "--url", url)
        assert ran.status == 2 and "cannot publish survey" in ran.err, ran
    other = ("dataset", "publish", f"{SOMEBODY}/survey", made["encrypted"], "--url", URL)
    ran = await desk.run(*other)
    assert ran.status == 2 and f"the signer {SOMEBODY}" in ran.err, ran
    for text in ("", "AA==", "A" * 43, "A" * 44, "=" * 44, "A" * 300):
        (tmp_path / "other.key").write_text(text)
        (tmp_path / "other.key").chmod(0o600)
        ran = await desk.run("dataset", "push-key", "survey", str(tmp_path / "other.key"))
        assert ran.status != 0 and "standard base64 of 32 bytes" in ran.err, (text, ran)
    (tmp_path / "other.key").chmod(0o644)
    ran = await desk.run("dataset", "push-key", "survey", str(tmp_path / "other.key"))
    assert ran.status == EXIT_STATUS["key-file-unusable"], ran


async def test_publishing_needs_the_space_public(desk: Desk, tmp_path: Path) -> None:
    """DS7: a login without the space `public` is told how to log in."""
    await desk.log_in()
    made = await encrypted(desk, survey(tmp_path))
    ran = await desk.run("dataset", "publish", "survey", made["encrypted"], "--url", URL)
    assert ran.status == EXIT_STATUS["not-granted"] and ran.next.endswith("--space public"), ran
