"""Answers of children, which the runner treats as untrusted."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests_support import fuzzed

from runner.guest import frames as _frames


def test_an_answer_there_and_back() -> None:
    """The runner decodes an answer that a child has encoded."""
    answer = _frames.Answer(_frames.EXITED, _frames.NO_FUEL, -1, 2**40, 5, 6, 2**33, 3)
    frame = _frames.pack(answer, b"out", b"error")
    assert (len(frame) - 4).to_bytes(4) == frame[:4]
    assert (answer, memoryview(b"out"), b"error") == _frames.unpack(frame[4:])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes(_frames.ANSWER_BYTES - 1),
        _frames.pack(_frames.Answer(_frames.OVERFLOWED + 1, 0, 0, 0, 0, 0, 0, 0), b"", b"")[4:],
        _frames.pack(_frames.Answer(_frames.COMPLETED, 0, 0, 0, 0, 0, 0, 3), b"ab", b"")[4:],
    ],
)
def test_answers_that_are_none(body: bytes) -> None:
    """RN17: an answer that is too short, has an unknown end or contradicts itself is an error."""
    with pytest.raises(ValueError, match="answer"):
        _frames.unpack(body)


@fuzzed(1)
@given(st.binary(max_size=200))
def test_fuzz_answers(body: bytes) -> None:
    """RN17: any bytes decode to an answer made of parts of them, or raise ValueError."""
    try:
        answer, output, stderr = _frames.unpack(body)
    except ValueError:
        return
    assert len(output) == answer.output_bytes
    assert body.endswith(bytes(output) + stderr)


def test_a_child_reads_no_request_that_is_too_long() -> None:
    """RN17: a child closes the connection at a length above the bound."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(_frames.LENGTH.pack(_frames.MAX_REQUEST_BYTES + 1))
        with pytest.raises(EOFError):
            _frames.receive(theirs)
        ours.sendall(_frames.LENGTH.pack(3) + b"abc" + _frames.LENGTH.pack(9))
        assert (b"abc", []) == _frames.receive(theirs)
        ours.close()
        with pytest.raises(EOFError):
            _frames.receive(theirs)
