"""Replay of the requests that TinyCloud's JavaScript SDK sent.

Each scenario is replayed alone and in order, with the recorded server's hosting and with default
settings. Every difference has a reason and a count: a new one, or one that no longer occurs, fails.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import pytest
from conformance.replay_node import ReplayNode, ReplayNodes
from wire_replay import Answer, Exchange, comparable, load_scenario, token_id

pytestmark = pytest.mark.shared

UNEXPLAINED = "unexplained"
OWN_INFORMATION = "wire 5.1: own version and features"
USED_ONCE = "I20: a token is used once"
NO_KEY = "no private key is recorded"
ACCOUNT_BEFORE = "the account before"
SANDBOXED = "wire 5.10: a signed value gets no origin of its own"
LAST_CHANGE = "wire 4.4.2: metadata has the time of the last change"
HOSTED = "store §6: signing in hosts the owner's spaces"
NETWORK_MADE = "store §6: signing in makes the owner's network"

# Scenario -> reason -> how many of its exchanges depart for it.
DEPARTURES: dict[str, dict[str, int]] = {
    "surface": {OWN_INFORMATION: 2},
    "signin": {OWN_INFORMATION: 3, "Q5": 2, "Q6": 9},
    "kv": {OWN_INFORMATION: 2, "Q1": 4, "Q6": 4, ACCOUNT_BEFORE: 1, SANDBOXED: 1, LAST_CHANGE: 2},
    "delegation": {OWN_INFORMATION: 3, "Q6": 5},
    "sharing": {OWN_INFORMATION: 2, "Q6": 4, LAST_CHANGE: 1},
    "encryption": {OWN_INFORMATION: 4, "Q6": 7, NO_KEY: 5, USED_ONCE: 1},
    "secrets": {OWN_INFORMATION: 2, "Q5": 1, "Q6": 5, NO_KEY: 7},
    "vault": {OWN_INFORMATION: 1, "Q6": 2, NO_KEY: 2, ACCOUNT_BEFORE: 1},
}

# With the settings a node has by default these come on top. Releases are none of them: here only
# the owner in person asks for keys.
DEFAULT_SETTINGS_DEPARTURES: dict[str, dict[str, int]] = {
    "surface": {},
    "signin": {HOSTED: 4},
    "kv": {HOSTED: 2},
    "delegation": {HOSTED: 3},
    "sharing": {HOSTED: 2},
    "encryption": {HOSTED: 4, NETWORK_MADE: 1},
    "secrets": {HOSTED: 1, NETWORK_MADE: 1},
    "vault": {HOSTED: 1, NETWORK_MADE: 1},
}


@pytest.mark.parametrize("scenario", DEPARTURES)
@pytest.mark.asyncio(loop_scope="module")
async def test_scenario(scenario: str, replay_nodes: ReplayNodes) -> None:
    """Every exchange of a scenario is answered as recorded, or differs for a listed reason."""
    assert await departures(await replay_nodes.new_node(), scenario) == DEPARTURES[scenario]


@pytest.mark.parametrize("scenario", DEPARTURES)
@pytest.mark.asyncio(loop_scope="module")
async def test_scenario_with_default_settings(scenario: str, default_nodes: ReplayNodes) -> None:
    """With default settings a scenario differs only in hosting from the one without."""
    expected = {**DEPARTURES[scenario], **DEFAULT_SETTINGS_DEPARTURES[scenario]}
    assert await departures(await default_nodes.new_node(), scenario) == expected


# Scenario -> how many keys its recorded server gave out, and how many of them again for a used
# token (I20).
RELEASES = {"encryption": (5, 1), "secrets": (7, 0), "vault": (2, 0)}


@pytest.mark.parametrize("scenario", RELEASES)
@pytest.mark.asyncio(loop_scope="module")
async def test_recorded_releases_pass_the_gate(scenario: str, default_nodes: ReplayNodes) -> None:
    """With attestation `delegates` every recorded release is admitted in person (IP2)."""
    node, exchanges = await default_nodes.new_node(), load_scenario(scenario)
    answers = [answer async for answer in node.replay(exchanges)]
    assert [answer.body for answer in answers if b"release refused" in answer.body] == []
    given = [
        answer
        for one, answer in zip(exchanges, answers, strict=True)
        if b'"wrappedKey"' in one.answer.body
    ]
    # passed the gate: the key is not recorded
    opened = sum(answer.body.startswith(_KEY_FAILURE) for answer in given)
    print(f"{scenario}: {opened} recorded releases pass the gate")
    assert RELEASES[scenario] == (
        opened,
        sum(answer.body == b"duplicate invocation" for answer in given),
    )
    assert sum(RELEASES[scenario]) == len(given)


async def departures(node: ReplayNode, scenario: str) -> Mapping[str, int]:
    """Replay a scenario and count its differences by reason; fail for a difference without a
    reason."""
    exchanges = load_scenario(scenario)
    names = _token_names(exchanges)
    first_answers: dict[str, Answer] = {}
    found: Counter[str] = Counter()
    unexplained = []
    answers = node.replay(exchanges)
    for exchange in exchanges:
        answer = await anext(answers)
        if comparable(answer, names) != comparable(exchange.answer, names):
            reason = _reason(exchange, answer, first_answers)
            found[reason] += 1
            if reason == UNEXPLAINED:
                unexplained.append(
                    (exchange.number, comparable(exchange.answer, names), comparable(answer, names))
                )
        if exchange.request.path == "/delegate":
            first_answers.setdefault(exchange.request.token or "", answer)
    assert unexplained == []
    return found


def _token_names(exchanges: Iterable[Exchange]) -> list[tuple[str, str]]:
    """Return the ids of the tokens, so that answers can be compared by token."""
    tokens = dict.fromkeys(
        token for exchange in exchanges if (token := exchange.request.token) is not None
    )
    return [(token_id(token), f"{{cid{number}}}") for number, token in enumerate(tokens, 1)]


def _reason(exchange: Exchange, answer: Answer, first_answers: Mapping[str, Answer]) -> str:
    return next(
        (reason for reason, holds in REASONS.items() if holds(exchange, answer, first_answers)),
        UNEXPLAINED,
    )


def _tells_true_lists(
    exchange: Exchange, answer: Answer, first_answers: Mapping[str, Answer]
) -> bool:
    """Q6: a repeated grant is answered with its spaces, and hosted ones stay hosted."""
    first = first_answers.get(exchange.request.token or "")
    if first is None or exchange.request.path != "/delegate" or answer.status != 200:
        return False
    before, now, recorded = (json.loads(item.body) for item in (first, answer, exchange.answer))
    return (
        now["cid"] == before["cid"] == recorded["cid"]
        and set(before["activated"]) <= set(now["activated"])
        and {*before["activated"], *before["skipped"]} == {*now["activated"], *now["skipped"]}
    )


def _names_itself(exchange: Exchange, answer: Answer, first_answers: Mapping[str, Answer]) -> bool:
    """The route `/info` returns this node's version and services, and all else as recorded."""
    if exchange.request.path not in ("/info", "/version") or answer.status != 200:
        return False
    ours, recorded = json.loads(answer.body), json.loads(exchange.answer.body)
    own = {"version", "features", *(set(ours) - set(recorded))}
    return {k: v for k, v in ours.items() if k not in own} == {
        k: v for k, v in recorded.items() if k not in own
    }


def _has_no_recorded_key(
    exchange: Exchange, answer: Answer, first_answers: Mapping[str, Answer]
) -> bool:
    """The network's private key is not recorded, so unwrapping fails after all other checks."""
    return (
        b'"wrappedKey"' in exchange.answer.body
        and answer.status == 500
        and answer.body.startswith(_KEY_FAILURE)
    )


def _came_from_before(
    exchange: Exchange, answer: Answer, first_answers: Mapping[str, Answer]
) -> bool:
    """A late call is refused: it is for the previous account, whose grants were never posted
    here."""
    return (
        not first_answers
        and exchange.answer.status == 401
        and answer.body == b"Cannot find parent delegation"
    )


def _authorises_first(
    exchange: Exchange, answer: Answer, first_answers: Mapping[str, Answer]
) -> bool:
    """Q5: an unauthorised write is refused before the node says whether the space is hosted."""
    return (
        (exchange.answer.status, exchange.answer.body) == (404, b"Space not found")
        and answer.status == 401
        and answer.body.startswith(b"Unauthorized Action: ")
    )


def _takes_a_token_once(
    exchange: Exchange, answer: Answer, first_answers: Mapping[str, Answer]
) -> bool:
    """A token is used up on the dedicated decrypt route as on `/invoke`."""
    return (answer.status, answer.body) == (
        409,
        b"duplicate invocation",
    ) and exchange.request.path.endswith("/decrypt")


def _hosts_by_signing_in(
    exchange: Exchange, answer: Answer, first_answers: Mapping[str, Answer]
) -> bool:
    """A sign-in hosts the skipped space, so that a later put finds it."""
    if exchange.request.path != "/delegate":
        recorded = (exchange.answer.status, exchange.answer.body)
        return recorded == (404, b"Space not found") and answer.status == 200
    now, then = json.loads(answer.body), json.loads(exchange.answer.body)
    return (
        now["cid"] == then["cid"]
        and set(then["activated"]) < set(now["activated"])
        and {*now["activated"], *now["skipped"]} == {*then["activated"], *then["skipped"]}
    )


def _made_network_by_signing_in(
    exchange: Exchange, answer: Answer, first_answers: Mapping[str, Answer]
) -> bool:
    """The owner's default network exists before the client creates it."""
    recorded = (exchange.answer.status, exchange.answer.body)
    return (
        recorded == (404, b"network not found")
        and answer.status == 200
        and b":default" in answer.body
    )


def _goes_on(exchange: Exchange, answer: Answer, first_answers: Mapping[str, Answer]) -> bool:
    """Q1: the page after a cursor does not repeat the last key of the page before."""
    names = [name for name, _ in exchange.request.headers]
    if "x-tinycloud-cursor" not in names or answer.status != 200:
        return False
    ours, repeated = json.loads(answer.body), json.loads(exchange.answer.body)
    return bool(ours) and ours == sorted(ours) and ours[0] > repeated[-1]


def _is_sandboxed(exchange: Exchange, answer: Answer, first_answers: Mapping[str, Answer]) -> bool:
    """A signed value is as recorded, with one header more."""
    kept = tuple(
        (name, value) for name, value in answer.headers if name != "content-security-policy"
    )
    bare = Answer(answer.status, kept, answer.body)
    return exchange.request.path.startswith("/signed/kv/") and comparable(bare) == comparable(
        exchange.answer
    )


def _dates_metadata(
    exchange: Exchange, answer: Answer, first_answers: Mapping[str, Answer]
) -> bool:
    """Metadata is as recorded, with the time of the last change."""
    kept = tuple((name, value) for name, value in answer.headers if name != "last-modified")
    body = re.sub(rb',"last-modified":"[A-Z][a-z]{2}, [^"]+ GMT"', b"", answer.body)
    bare = Answer(answer.status, kept, body)
    return answer.status == 200 and comparable(bare) == comparable(exchange.answer)


_KEY_FAILURE = b"key backend error: "

REASONS: dict[str, Callable[[Exchange, Answer, Mapping[str, Answer]], bool]] = {
    "Q1": _goes_on,
    "Q5": _authorises_first,
    "Q6": _tells_true_lists,
    USED_ONCE: _takes_a_token_once,
    OWN_INFORMATION: _names_itself,
    NO_KEY: _has_no_recorded_key,
    ACCOUNT_BEFORE: _came_from_before,
    NETWORK_MADE: _made_network_by_signing_in,
    HOSTED: _hosts_by_signing_in,
    SANDBOXED: _is_sandboxed,
    LAST_CHANGE: _dates_metadata,
}
