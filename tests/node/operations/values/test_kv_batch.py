"""Tests of several values in one token: batch puts, batch reads and deletes."""

import base64
import json
from email.utils import parsedate_to_datetime

import pytest
from kv_client import FORM_TYPE, Owner, etag, form

from node.operations.values.kv_batch import MAX_BATCH_READ_BYTES
from spaces.values.value_bodies import INLINE_TOGETHER_BYTES

LARGE = bytes(range(256)) * 1024
NOT_ONE_KIND = "Multiple invocation outcomes require a homogeneous KV get or metadata batch"


# --- deletes (Q4)


async def test_several_deletes(owner: Owner) -> None:
    """Deletes of one token are one commit, large values included, and repeatable (Q4, M31)."""
    await owner.put_all({"a": b"1", "b": LARGE, "c": b"3"})
    for _ in range(2):
        assert (200, "") == (await owner.invoke(("del", "a"), ("delete", "b"))).said
    assert (await owner.invoke(("list", ""))).text == '["c"]'


async def test_one_unknown_key_keeps_all(owner: Owner) -> None:
    """If one of the keys was never written, nothing is deleted (M5)."""
    await owner.put_all({"a": b"1", "b": b"2"})
    assert (404, "No Such Key: x") == (
        await owner.invoke(("del", "a"), ("del", "b"), ("del", "x"))
    ).said
    assert (await owner.invoke(("list", ""))).text == '["a","b"]'


async def test_both_names_of_a_delete_on_one_key(owner: Owner) -> None:
    """`kv/del` and `kv/delete` on one path are one delete."""
    await owner.put("a", b"1")
    assert (200, "") == (await owner.invoke(("del", "a"), ("delete", "a"))).said
    assert (await owner.get("a")).status == 404


async def test_deletes_in_two_spaces(owner: Owner) -> None:
    """Deletes in several spaces are one commit too."""
    await owner.put("a", LARGE)
    await owner.invoke(("put", "a"), body=LARGE, space="other")
    more = {f"{owner.space_named('other').text}/kv/a": "tinycloud.kv/del"}
    assert (200, "") == (await owner.invoke(("del", "a"), more=more)).said
    assert (await owner.get("a")).status == 404
    assert (await owner.invoke(("get", "a"), space="other")).status == 404


async def test_too_many_deletes(owner: Owner) -> None:
    """A token deletes at most 250 keys (ST6)."""
    many = [("del", f"k{number:03}") for number in range(251)]
    assert (400, "KV batch delete accepts at most 250 keys") == (await owner.invoke(*many)).said
    await owner.put_all({path: b"" for _, path in many[:250]})
    assert (200, "") == (await owner.invoke(*many[:250])).said
    assert (await owner.invoke(("list", ""))).text == "[]"


# --- what cannot be combined (Q3)


@pytest.mark.parametrize(
    "wanted",
    [
        [("put", "a"), ("get", "a")],
        [("put", "a"), ("del", "b")],
        [("get", "a"), ("del", "b")],
        [("get", "a"), ("metadata", "b")],
        [("list", ""), ("list", "a")],
        [("list", ""), ("get", "b")],
    ],
    ids=lambda wanted: "+".join(name for name, _ in wanted),
)
async def test_outcomes_without_a_common_answer(
    owner: Owner, wanted: list[tuple[str, str]]
) -> None:
    """Outcomes without a common answer are refused before the token is used (Q3, I15)."""
    await owner.put_all({"a": b"1", "b": b"2"})
    token = owner.token(wanted)
    for _ in range(2):
        assert (400, NOT_ONE_KIND) == (await owner.invoke(*wanted, body=b"new", token=token)).said
    assert [(await owner.get(path)).text for path in "ab"] == ["1", "2"]


async def test_a_read_beside_the_capabilities(owner: Owner) -> None:
    """Reading a space's delegations cannot share an answer with a get."""
    more = {f"{owner.space.text}/capabilities/all": "tinycloud.capabilities/read"}
    assert (400, NOT_ONE_KIND) == (await owner.invoke(("get", "a"), more=more)).said


async def test_two_puts_without_a_form(owner: Owner) -> None:
    """Several puts without a form are refused (4.4.6)."""
    assert (400, "KV batch put requires multipart/form-data") == (
        await owner.invoke(("put", "a"), ("put", "b"), body=b"x")
    ).said


# --- batch reads (Q22)


async def test_batch_of_gets(owner: Owner) -> None:
    """Values of any size are returned in the order of the paths, with absent ones marked."""
    await owner.put_all(
        {"b": LARGE, "a": b"1", "d": b""}, headers=["Content-Type: text/x", "X-TinyCloud-Meta-A: é"]
    )
    reply = await owner.invoke(("get", "c"), ("get", "b"), ("get", "a"), ("get", "d"))
    assert reply.headers["content-type"] == "application/json"
    results = json.loads(reply.body)["results"]
    assert ["a", "b", "c", "d"] == [result["key"] for result in results]
    assert {
        "key": "c",
        "ok": False,
        "error": {"code": "KV_NOT_FOUND", "message": "Key not found: c"},
    } == results[2]
    for result, body in zip((results[0], results[1], results[3]), (b"1", LARGE, b""), strict=True):
        assert body == base64.b64decode(result["dataBase64"], validate=True)
        assert result["headers"] == {
            "content-length": str(len(body)),
            "content-type": "text/x",
            "etag": etag(body),
            "x-tinycloud-meta-a": "é",
        }


async def test_batch_of_metadata(owner: Owner) -> None:
    """Metadata is returned without value or length, and with the time of the last change."""
    await owner.put_all({"a": LARGE})
    reply = await owner.invoke(("metadata", "a"), ("metadata", "b"))
    changed = (await owner.invoke(("metadata", "a"))).headers["last-modified"]
    assert parsedate_to_datetime(changed).timestamp() == owner.clock.now()
    assert json.loads(reply.body)["results"] == [
        {"key": "a", "ok": True, "headers": {"etag": etag(LARGE), "last-modified": changed}},
        {"key": "b", "ok": False, "error": {"code": "KV_NOT_FOUND", "message": "Key not found: b"}},
    ]


async def test_streamed_batch(owner: Owner) -> None:
    """A batch too large for memory is streamed as the same text."""
    values = {f"k{number}": bytes([number]) * (300_001 + number) for number in range(4)} | {
        "small": b"s"
    }
    for path, body in values.items():
        assert (await owner.put(path, body)).status == 200
    reply = await owner.invoke(*(("get", path) for path in values), ("get", "none"))
    assert "content-length" not in reply.headers
    found = {item["key"]: item.get("dataBase64") for item in json.loads(reply.body)["results"]}
    assert {path: base64.b64encode(body).decode() for path, body in values.items()} | {
        "none": None
    } == found


async def test_bounds_of_a_batch_read(owner: Owner) -> None:
    """The caller's limit applies to each value, the node's to all together, and to 100 values."""
    await owner.put_all({"a": b"12345", "b": b"1"})
    reply = await owner.invoke(
        ("get", "a"), ("get", "b"), headers={"x-tinycloud-max-response-bytes": "4"}
    )
    assert (413, "KV response is 5 bytes, exceeding the requested limit of 4 bytes") == reply.said
    many = [("get", f"k{number}") for number in range(101)]
    assert (400, "KV batch reads accept at most 100 keys") == (await owner.invoke(*many)).said
    assert (400, "KV batch reads accept at most 100 keys") == (
        await owner.invoke(("put", "a"), *many)
    ).said
    size_bytes = MAX_BATCH_READ_BYTES // 2 + 1
    for path in "ab":
        assert (await owner.put(path, b"x" * size_bytes)).status == 200
    text = (
        f"KV batch read holds {2 * size_bytes} bytes, more than the {MAX_BATCH_READ_BYTES} bytes of"
        " one answer"
    )
    assert (413, text) == (await owner.invoke(("get", "a"), ("get", "b"))).said
    assert (await owner.invoke(("metadata", "a"), ("metadata", "b"))).status == 200


async def test_damaged_value_in_a_batch(owner: Owner) -> None:
    """A damaged body makes a small batch 500, and cuts off a streamed one."""
    await owner.put_all({"a": b"x" * 80_000, "b": b"1"})
    (place,) = owner.files()
    place.write_bytes(b"y" * 80_000)
    assert (await owner.invoke(("get", "a"), ("get", "b"))).status == 500


# --- batch puts


async def test_metadata_of_parts(owner: Owner) -> None:
    """Each part has its own metadata; that of the whole form is not stored."""
    body = (
        b'--probe\r\nContent-Disposition: form-data; name="a"; filename="x.txt"\r\nContent-Type:'
        b" text/plain\r\nX-TinyCloud-Meta-A: 1\r\nX-TinyCloud-Meta-A: 2\r\nX-Other:"
        b" 3\r\nContent-Language: de\r\n\r\n1\r\n--probe--"
    )
    headers = {**FORM_TYPE, "x-tinycloud-meta-whole": "no", "content-language": "en"}
    assert (await owner.invoke(("put", "a"), body=body, headers=headers)).said == (
        200,
        '{"written":["a"],"count":1}',
    )
    reply = await owner.get("a")
    stored = {name: value for name, value in reply.headers.items() if name in _METADATA}
    assert stored == {
        "content-type": "text/plain",
        "content-language": "de",
        "x-tinycloud-meta-a": "2",
    }


_METADATA = {
    "content-type",
    "content-language",
    "content-disposition",
    "x-tinycloud-meta-a",
    "x-tinycloud-meta-whole",
}


async def test_batch_replaces_and_shares(owner: Owner) -> None:
    """A batch replaces values, equal large values share a file, and the usage is exact (M10)."""
    await owner.put_all({"a": LARGE, "b": LARGE, "c": b"12345"})
    assert len(owner.files()) == 1
    await owner.put_all({"a": b"1", "c": LARGE, "d": b""})
    assert [(await owner.get(path)).body for path in "abcd"] == [b"1", LARGE, LARGE, b""]
    assert await owner.used_bytes() == len(LARGE) + 1


async def test_too_many_puts(owner: Owner) -> None:
    """A batch of 250 keys is accepted, and a larger one is refused (ST6)."""
    values = {f"k{number:03}": b"v" for number in range(251)}
    assert (400, "KV batch put accepts at most 250 keys") == (await owner.put_all(values)).said
    del values["k250"]
    reply = await owner.put_all(values)
    assert json.loads(reply.body) == {"written": sorted(values), "count": 250}


async def test_small_values_of_a_batch_are_bounded_together(owner: Owner) -> None:
    """Small values with their metadata are limited to 8 MiB; beyond, nothing is written (ST6)."""
    about, value = b"X-TinyCloud-Meta-A: " + b"m" * 5_000, b"v" * 40_000
    names = [f"k{number:03}" for number in range(190)]
    head = b'--probe\r\nContent-Disposition: form-data; name="%b"\r\n%b\r\n\r\n%b\r\n'
    body = b"".join([head % (name.encode(), about, value) for name in names]) + b"--probe--"
    reply = await owner.invoke(*[("put", name) for name in names], body=body, headers=FORM_TYPE)
    assert reply.status == 400
    assert "8388608" in reply.text
    assert (404, "Space not found") == (await owner.invoke(("list", ""))).said


async def test_values_of_a_batch_that_find_no_room_in_rows_lie_in_files(owner: Owner) -> None:
    """Small values that would make the commit too large are stored in files (ST6)."""
    values = {f"k{number:03}": number.to_bytes(2, "big") * 24_000 for number in range(200)}
    assert (await owner.put_all(values)).status == 200
    assert len(owner.files()) == 200 - INLINE_TOGETHER_BYTES // 48_000
    assert (await owner.get("k199")).body == values["k199"]


async def test_large_values_of_a_batch(owner: Owner) -> None:
    """A batch of as many large values as it may have keys is one commit, and so is its replacement
    (ST6)."""
    for number in (1, 2):
        values = {f"k{at:03}": bytes((number, at)) * 33_000 for at in range(250)}
        assert (await owner.put_all(values)).status == 200
        assert (await owner.get("k249")).body == values["k249"]
    assert len(owner.files()) == 500


async def test_batch_leaves_nothing_when_it_fails(owner: Owner) -> None:
    """If a part is invalid, the parts before it are not stored."""
    await owner.put("a", b"before")
    body = form({"a": LARGE, "x": b"1"})
    reply = await owner.invoke(("put", "a"), ("put", "b"), body=body, headers=FORM_TYPE)
    assert (400, "Multipart KV part x is not authorized by the invocation") == reply.said
    assert (await owner.get("a")).text == "before"
    assert owner.files() == []


async def test_batch_that_needs_no_form(owner: Owner) -> None:
    """A form with a token without a put is ignored."""
    await owner.put("a", b"1")
    reply = await owner.invoke(("get", "a"), body=b"no form at all", headers=FORM_TYPE)
    assert reply.said == (200, "1")


async def test_batch_of_an_outsider(owner: Owner) -> None:
    """Without authority the answer is 401 before any byte of the form is read (Q5, I11)."""
    await owner.put("a", b"1")
    outsider = Owner(owner.node, owner.session, owner.clock)
    token = outsider.token((), more={f"{owner.space.text}/kv/a": "tinycloud.kv/put"})
    reply = await owner.invoke(token=token, body=b"no form at all", headers=FORM_TYPE)
    assert (401, "Cannot find parent delegation") == reply.said
