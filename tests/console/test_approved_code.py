"""Tests of the code that an owner approves: its names and files, and what differs from the code that
was approved before (CN18)."""

import copy
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from browser import Browser, BrowserWallet
from console_stage import ConsolePage, add_secret, console_page, request_link
from console_wire import in_console
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode, embedded_node
from node_js import Scripts
from playwright.async_api import expect
from published_folder import PublishedFolder
from trust_settings import trusting_config

from encryption_network.policy import parse_policy, policy_json
from sealspace.giving.words.policies import policy_changes
from sealspace.session import key_session
from tee_backend.measuring.input_folder import read_inputs
from tee_backend.measuring.reference_values import measure, measured_json

MANIFEST: dict[str, Any] = {
    "app_id": "com.example.notes",
    "name": "Notes",
    "defaults": False,
    "secrets": {"API_KEY": True},
}
DIGESTS = ("ab" * 32, "cd" * 32)


def app_compose(digest: str) -> bytes:
    """Return the app-compose.json of one image."""
    image = f"docker.io/acme/notes@sha256:{digest}"
    application = {
        "manifest_version": 2,
        "name": "acme-notes",
        "runner": "docker-compose",
        "docker_compose_file": f"services: {{notes: {{image: '{image}'}}}}",
        "allowed_envs": [],
    }
    return json.dumps(application).encode()


@pytest.fixture(scope="module")
def platform() -> SimulatedPlatform:
    """A simulated platform with a root certificate of its own."""
    return SimulatedPlatform.from_seed(b"tests of approved code")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, platform: SimulatedPlatform) -> list[Any]:
    """The output of `backend measure --json` for two versions of an application."""
    found: list[Any] = []
    for digest in DIGESTS:
        folder = PublishedFolder(
            folder=tmp_path_factory.mktemp("published"), compose=app_compose(digest)
        ).write(platform)
        found.append(measured_json(measure(read_inputs(folder))))
    return found


@pytest.fixture
def wary(
    browser: Browser,
    tmp_path_factory: pytest.TempPathFactory,
    platform: SimulatedPlatform,
    wallet: BrowserWallet,
) -> Iterator[ConsolePage]:
    """A tab at the console of a node that demands proof of code."""
    config = trusting_config(tmp_path_factory.mktemp("node"), platform)
    with browser.entered(embedded_node(config)) as node:
        trusting: EmbeddedNode = node
        with console_page(browser, trusting.url, wallet=wallet) as opened:
            yield opened
            assert opened.faults() == []


def approve(console: ConsolePage, did: str, document: Any, *, expected: list[str]) -> None:
    """Open a request, paste the code, see what the page says of it, and approve."""
    console.go(request_link({**MANIFEST, "did": did}))
    console.see("Who asks")
    console.type("The code, as sealspace backend show --json printed it", json.dumps(document))
    for text in expected:
        console.see(text)
    console.shot("requests-code-names")
    console.click("Approve")
    console.see("The grant is in force")


def test_CN18_names_files_and_changes(wary: ConsolePage, measured: list[Any]) -> None:
    """The page of requests names the code and the files behind each value, and what differs from the
    former approval, also of an app with a new DID. The details of a grant show the same."""
    wary.sign_in()
    add_secret(wary, "API_KEY", "open sesame")
    first, second = (key_session(seed.to_bytes(32)).did for seed in (61, 62))
    names = ['"acme-notes", images published at docker.io/acme', "computed: SHA-256 of app-compose"]
    approve(wary, first, measured[0], expected=[*names, "nothing yet for this backend"])
    wary.go("requests")
    image = "image notes: docker.io/acme/notes@sha256:"
    changed = [
        "was for other code:",
        "The former grant is to another DID",
        f"- {image}{DIGESTS[0][:16]}…",
        f"+ {image}{DIGESTS[1][:16]}…",
        f"- compose file {hashlib.sha256(app_compose(DIGESTS[0])).hexdigest()[:16]}…",
    ]
    approve(wary, second, measured[1], expected=[*names, *changed])
    wary.go(f"grants?find={second}")
    wary.run(wary.tab.get_by_role("button", name="Details of the grant").click())
    dialog = wary.tab.locator("dialog")
    for text in (*names, *changed, "As you approved it."):
        wary.run(expect(dialog).to_contain_text(text))
    # the image of the machine is the same, so no line is about it
    wary.run(expect(dialog.locator("[data-changes]")).not_to_contain_text("MRTD"))
    whole = dialog.get_by_text(f"- {image}{DIGESTS[0]}")
    wary.run(expect(whole).not_to_be_visible())
    wary.run(dialog.get_by_text("Complete hashes").click())
    wary.run(expect(whole).to_be_visible())
    wary.shot("grant-code-changes")
    assert wary.accessibility_problems() == []
    wary.click("Close", within="dialog header")
    # the names came with the first approval, and are known without the files
    wary.go(request_link({**MANIFEST, "did": first}))
    wary.type(
        "The code, as sealspace backend show --json printed it", json.dumps(measured[0]["policy"])
    )
    wary.see("the same code as in your grant")
    wary.see(names[0])


CODE: dict[str, Any] = {
    "measurements": [dict.fromkeys(("mrtd", "rtmr0", "rtmr1", "rtmr2"), "ab" * 48)],
    "composeHashes": ["cd" * 32],
    "appIds": ["cd" * 20],
    "keyProviders": ["kms:00ff", "kms:73696d", "tpm"],
}
OTHER_REGISTER = [{**CODE["measurements"][0], "rtmr1": "ef" * 48, "rtmr3": "01" * 48}]
POLICIES: list[Any] = [
    CODE,
    {**CODE, "measurements": OTHER_REGISTER},
    {**CODE, "measurements": [*CODE["measurements"], *OTHER_REGISTER]},
    {**CODE, "tdAttributes": ["0000001000000000", "0100001000000000"]},
    {**CODE, "tcbStatuses": ["UpToDate", "OutOfDate"], "tcbGraceSeconds": 129_600},
    {**CODE, "advisories": ["INTEL-SA-00001"], "minEvaluationNumber": 19, "maxAgeSeconds": 600},
    {**CODE, "platformIds": ["12" * 32], "receiver": "signed", "inPerson": False},
    {**CODE, "paths": ["tinycloud:pkh:eip155:1:0x" + "0" * 40 + ":secrets/kv/vault/secrets/KEY"]},
]


def test_CN18_the_words_are_those_of_the_command(console: ConsolePage) -> None:
    """The page describes changes of a policy in the words of `backend grant`."""
    script = """
      const { differing } = await at("code_files"), { code } = await at("../texts_code");
      return given.map(([before, after]) => differing(...code.pair(before, after)));
    """
    console.open("connect")
    pairs = [(parse_policy(one), parse_policy(other)) for one in POLICIES for other in POLICIES]
    expected = []
    for before, after in pairs:
        changes = policy_changes(before, after)
        expected.append([line for line in changes if not line.startswith("  ")])
    written = [[policy_json(one) for one in pair] for pair in pairs]
    assert in_console(console, script, written) == expected
    # a policy that leaves out the defaults says the same
    stated = [[one, other] for one in POLICIES for other in POLICIES]
    assert in_console(console, script, stated) == expected


READ = """async (documents) => {
  const { codeFilesIn } = await import("/console/wire/code_files.js");
  return documents.map((one) => {
    try {
      return codeFilesIn(one, one.policy) ?? null;
    } catch (error) {
      return error.details.member;
    }
  });
}"""


def test_CN18_names_that_contradict_the_policy(scripts: Scripts, measured: list[Any]) -> None:
    """A text whose files give other values than its policy is refused, by the name of the value; names
    over a limit or of another form are not shown."""
    (document, other) = measured
    refused = [{**document, "policy": other["policy"]}]
    for name in ("mrtd", "appId", "keyProvider"):
        changed = copy.deepcopy(document)
        for value in changed["values"]:
            if value["name"] == name:
                value["values"] = ["00" * 48]
        refused.append(changed)
    assert scripts.evaluate(READ, refused) == ["composeHash", "mrtd", "appId", "keyProvider"]
    image = document["images"][0]
    malformed = [
        {**document, "name": "n" * 401},
        {**document, "name": None},
        {**document, "images": [image] * 33},
        {**document, "images": [{**image, "reference": 1}]},
        {**document, "images": [{**image, "service": "s" * 400}] * 20},
        {**document, "osImageHash": "ab"},
        {**document, "values": [{"name": "mrtd"}]},
    ]
    assert scripts.evaluate(READ, malformed) == [None] * len(malformed)
    (read,) = scripts.evaluate(READ, [document])
    assert read["name"] == "acme-notes" and read["images"] == [image]
    assert read["sources"]["composeHash"] == "computed: SHA-256 of app-compose.json"
