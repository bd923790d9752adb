"""Messages of a child about storage, which the runner does not trust (RN203)."""

import asyncio
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from runner.calls.project_storage import ProjectStorage
from runner.calls.secret_tags import StorageKey
from runner.guest.guest_storage import TYPE
from serving.messages import pack_parts, unpack_parts

PARTS = st.binary(max_size=200)
NAMES = st.sampled_from(re.findall('export "(.*?)"', TYPE)).map(str.encode)
NO_BACKEND: Any = None  # without a grant none is used


@fuzzed(1)
@given(
    st.binary(max_size=300)
    | st.lists(PARTS, max_size=6).map(pack_parts)
    | st.builds(lambda name, parts: pack_parts([name, *parts]), NAMES, st.lists(PARTS, max_size=4))
)
def test_fuzz_operations(message: bytes) -> None:
    """RN203: any bytes are answered; without a grant the answer is an error."""
    run = ProjectStorage(NO_BACKEND, lambda: None, None, StorageKey(bytes(32)).digest)
    (error,) = unpack_parts(asyncio.run(run.answer(message)))
    assert error and run.state == "none"
