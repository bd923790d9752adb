"""Reference values compared with public quotes of genuine machines.

Of the quotes that are kept beside the checkout, three have files: one its compose file and event
log, one its event log, and one its event log and the description of its image.
"""

import json
from base64 import b64decode, b64encode
from typing import Any

import pytest
from tests_support import shared_vectors

from tee_backend.attestation.event_log_claims import KeyProvider
from tee_backend.measuring.compose_files import parse_compose
from tee_backend.measuring.guest_answer import (
    GuestAnswer,
    check_agrees,
    parse_guest_answer,
    replayed_registers,
)
from tee_backend.measuring.measuring_errors import MeasurementRefused
from tee_backend.measuring.reference_values import Inputs, measure

pytestmark = pytest.mark.shared


def _lite() -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        shared_vectors("tdx/context/dstack_lite_getquote.json").read_bytes()
    )
    return answer


def _answers() -> dict[str, GuestAnswer]:
    nearmpc = json.loads(shared_vectors("tdx/context/nearmpc_tcb_info.json").read_bytes())
    quote = shared_vectors("tdx/quotes/v4_td10_b0c0_nearmpc_dstack.bin").read_bytes()
    lium = shared_vectors("tdx/context/dstack_lium_getquote.json").read_bytes()
    texts = {
        "nearmpc": json.dumps({"quote": quote.hex(), "event_log": nearmpc["event_log"]}).encode(),
        "lium": lium,
        "lite": json.dumps(_lite()).encode(),
    }
    return {name: parse_guest_answer(text) for name, text in texts.items()}


def test_replayed_registers() -> None:
    """The logs of three machines replay to RTMR0 to RTMR2 of their quotes, and RTMR3 follows:
    twelve registers agree."""
    agreeing = 0
    for answer in _answers().values():
        assert answer.quote is not None and answer.log is not None
        for number, register in replayed_registers(answer.log).items():
            assert register.value == getattr(answer.quote.report, f"rtmr{number}")
            agreeing += 1
        assert check_agrees(answer) is not None
        agreeing += 1
    assert agreeing == 12


def test_an_application_with_its_compose_file() -> None:
    """Of eight values of a genuine quote, two are computed from its compose file, five are
    replayed, and MRTD is only quoted."""
    compose = shared_vectors("tdx/context/nearmpc_app_compose.json").read_bytes()
    answer = _answers()["nearmpc"]
    inputs = Inputs(compose=parse_compose(compose, file="app-compose.json"), answer=answer)
    measured = measure(inputs)
    assert measured.sources == "2 computed, 5 replayed, 1 quoted"
    assert measured.missing == ("MRTD",)
    assert measured.compose.publishers == ("docker.io/nearone",)
    claims = check_agrees(answer)
    assert claims is not None
    stated = Inputs(
        compose=inputs.compose,
        answer=answer,
        key_provider=claims.key_provider,
        storage="zfs",
    )
    # With both stated, all but the entry that the application itself wrote follow from files.
    assert [event.name for event in measure(stated).events if event.source == "replayed"] == [
        "mpc-image-digest"
    ]
    other = KeyProvider(name="kms", id=b"other")
    with pytest.raises(MeasurementRefused):
        measure(Inputs(compose=inputs.compose, answer=answer, key_provider=other))


def test_an_image_with_its_description() -> None:
    """MRTD, RTMR1 and RTMR2 of a genuine quote follow from the description of its image, whose
    hash the machine states (AT67)."""
    answer = _answers()["lite"]
    assert answer.quote is not None and answer.image is not None
    report = answer.quote.report
    assert answer.image.os_image_hash.hex() == answer.os_image_hash
    assert answer.image.mrtd.two_pass == report.mrtd  # QEMU 8.2.2
    assert answer.image.rtmr1 == report.rtmr1
    assert answer.image.rtmr2 == report.rtmr2


@pytest.mark.parametrize("byte", [0, 40, 100, 200, -1])
def test_a_changed_description(byte: int) -> None:
    """A description that lost its hash is refused."""
    answer = _lite()
    config = json.loads(answer["vm_config"])
    document = bytearray(b64decode(config["tdx_measurement"]["measurement"]))
    document[byte] ^= 1
    config["tdx_measurement"]["measurement"] = b64encode(document).decode()
    changed = json.dumps(answer | {"vm_config": json.dumps(config)}).encode()
    with pytest.raises(MeasurementRefused) as refused:
        parse_guest_answer(changed)
    assert refused.value.problem == "image-malformed"


def test_a_description_with_another_list() -> None:
    """A list of checksums with another hash than the machine states is refused."""
    answer = _lite()
    config = json.loads(answer["vm_config"])
    checksums = b64decode(config["tdx_measurement"]["checksum_file"]) + b"\n"
    config["tdx_measurement"]["checksum_file"] = b64encode(checksums).decode()
    changed = json.dumps(answer | {"vm_config": json.dumps(config)}).encode()
    with pytest.raises(MeasurementRefused, match="hash that the machine states"):
        parse_guest_answer(changed)
