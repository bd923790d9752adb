"""Data segments that are merged before a program is compiled (RN190)."""

from collections.abc import Iterator

import pytest
from guest_programs import Guest, code, run_guest
from hypothesis import given
from hypothesis import strategies as st
from wasmtime import Engine, Instance, Memory, Module, Store, Trap, WasmtimeError, wat2wasm

from runner.guest.data_segments import merge_segments
from runner.guest.executor import Executor
from runner.guest.wasm import configured

PAGE = 65536
PLAIN = Engine()
COMPILER = Engine(configured(multi_memory=False))


@pytest.fixture(scope="module", autouse=True)
def _closed() -> Iterator[None]:
    """Close the engines before the interpreter ends, which would unload wasmtime first."""
    yield
    PLAIN.close()
    COMPILER.close()


def module(segments: list[tuple[int, bytes]], more: str = "", *, pages: int = 1) -> bytes:
    """Return a module with a memory of these segments."""
    data = "".join(
        f'(data (i32.const {offset}) "' + "".join(map("\\{:02x}".format, content)) + '")'
        for offset, content in segments
    )
    return bytes(wat2wasm(f'(module (memory (export "m") {pages}) {data} {more})'))


def content(binary: bytes) -> bytes | None:
    """Return the first megabyte of a module's memory `m`; None if it has none or cannot start."""
    store = Store(PLAIN)
    try:
        memory = Instance(store, Module(store.engine, binary), []).exports(store)["m"]
    except (WasmtimeError, Trap, KeyError):
        return None
    if not isinstance(memory, Memory):
        return None
    return bytes(memory.read(store, 0, 1 << 20))


def merged(binary: bytes) -> bytes:
    """Return the module or component as the compiler gets it."""
    return merge_segments(binary, COMPILER)


UNTOUCHED = {
    "passive": '(module (memory 1) (data (i32.const 0) "a") (data (i32.const 1) "b") (data "c"))',
    "computed": (
        '(module (memory 1) (global $g i32 (i32.const 9)) (data (i32.const 0) "a")'
        ' (data (i32.const 1) "b") (data (global.get $g) "c"))'
    ),
    "extended": (
        '(module (memory 1) (data (i32.const 0) "a") (data (i32.const 1) "b")'
        ' (data (i32.add (i32.const 1) (i32.const 1)) "c"))'
    ),
    "imported": (
        '(module (memory (import "a" "m") 1) (data (i32.const 0) "a") (data (i32.const 1) "b"))'
    ),
    "beside an imported one": (
        '(module (memory (import "a" "m") 1) (memory 1) (data (i32.const 0) "a")'
        ' (data (i32.const 1) "b"))'
    ),
    "two memories": (
        '(module (memory 1) (memory 1) (data (i32.const 0) "a") (data (i32.const 1) "b"))'
    ),
    "second memory": (
        '(module (memory 1) (memory 1) (data (i32.const 0) "a") (data (i32.const 1) "b")'
        ' (data (memory 1) (i32.const 1) "b"))'
    ),
    "outside": '(module (memory 1) (data (i32.const 0) "a") (data (i32.const 65535) "bc"))',
    "negative": '(module (memory 1) (data (i32.const 0) "a") (data (i32.const -1) ""))',
    "memory.init": (
        '(module (memory 1) (data (i32.const 0) "a") (data (i32.const 1) "b")'
        " (func (memory.init 1 (i32.const 0) (i32.const 0) (i32.const 0))))"
    ),
    "data.drop": (
        '(module (memory 1) (data (i32.const 0) "a") (data (i32.const 1) "b") (func (data.drop 0)))'
    ),
    "shared memory": (
        '(module (memory 1 1 shared) (data (i32.const 0) "a") (data (i32.const 1) "b"))'
    ),
    "memory of 64 bits": (
        '(module (memory i64 1) (data (i64.const 0) "a") (data (i64.const 1) "b"))'
    ),
    "one segment": '(module (memory 1) (data (i32.const 0) "a"))',
    "far apart": '(module (memory 1) (data (i32.const 0) "a") (data (i32.const 300) "b"))',
    "no data": "(module (memory 1))",
    "no memory": "(module)",
}


@pytest.mark.parametrize("text", UNTOUCHED.values(), ids=list(UNTOUCHED))
def test_modules_that_stay_as_they_are(text: str) -> None:
    """RN190: a module is left unchanged if merging could change the initial memory."""
    binary = bytes(wat2wasm(text))
    assert merged(binary) == binary


def test_a_section_with_more_than_its_segments_stays() -> None:
    """RN190: a data section with bytes after its last segment is left for wasmtime to refuse."""
    binary = module([(0, b"a"), (1, b"b")])
    size = binary.index(b"\x0b\x0d\x02") + 1  # the data section is the last one
    longer = binary[:size] + bytes([binary[size] + 1]) + binary[size + 1 :] + b"\0"
    assert merged(binary) != binary
    assert merged(longer) == longer


def test_numbers_longer_than_theirs_stay() -> None:
    """RN190: a number of more than five bytes is left for wasmtime to refuse."""
    binary = module([(0, b"a"), (1, b"b")])
    size = binary.index(b"\x0b\x0d\x02")
    padded = [
        binary[:size] + b"\x0b\x8d" + b"\x80" * n + b"\0" + binary[size + 2 :] for n in (3, 4)
    ]
    assert [merged(one) == one for one in padded] == [False, True]


def test_more_segments_than_wasmtime_takes_stay() -> None:
    """RN190: a module of over 100,000 segments is left unchanged and refused."""
    few, many = (module([(0, b"")] * count) for count in (100_000, 100_001))
    assert len(merged(few)) < 100
    assert merged(many) == many


def test_segments_become_one() -> None:
    """RN190: short gaps become zeros, long ones stay, and later segments overwrite earlier ones."""
    binary = module([(10, b"abcd"), (270, b"e"), (11, b"X"), (528, b"far"), (9, b"Y")])
    assert merged(binary) == merged(
        module([(9, b"YaXcd" + bytes(256) + b"e"), (528, b"far"), (9, b"Y")])
    )
    assert b"YaXcd" in merged(binary)
    assert content(merged(binary)) == content(binary)


def test_a_count_of_segments_that_no_code_uses_is_dropped() -> None:
    """RN190: compilers also count the segments of modules whose code uses none."""
    plain = module([(0, b"ab"), (2, b"cd")])
    counted = plain.replace(b"\x0b\x0f\x02", b"\x0c\x01\x02\x0b\x0f\x02")
    assert len(counted) == len(plain) + 3 and content(counted) == content(plain)
    assert merged(counted) == merged(plain) != plain


INVALID = {
    "kind": (b"\x0b\x10\x02", b"\x8b\0\x10\x02"),
    "instruction": (b"\x10\x02\0\x41", b"\x11\x02\0\xc1\0"),
    "end": (b"\x10\x02\0\x41\0\x0b", b"\x11\x02\0\x41\0\x8b\0"),
    "count": (b"\x0b\x10\x02", b"\x0c\x01\x03\x0b\x10\x02"),
}


@pytest.mark.parametrize("broken", INVALID.values(), ids=INVALID)
def test_merging_makes_no_module_valid(broken: tuple[bytes, bytes]) -> None:
    """RN190: wasmtime refuses the same modules as without merging, also in a component."""
    binary = module([(0, b"abc"), (1, b"de")])
    assert len(merged(binary)) != len(binary) and binary.count(broken[0]) == 1
    changed = binary.replace(*broken)
    with pytest.raises(WasmtimeError):
        Module(COMPILER, changed)
    assert merged(changed) == changed


def test_merging_makes_no_component_valid() -> None:
    """RN190: a component's section whose kind is written in two bytes is left unchanged."""
    inner = module([(0, b"abc"), (1, b"de")])
    component = b"\0asm\x0d\0\x01\0%b" + bytes([len(inner)]) + inner
    assert merged(component % b"\x01") != component % b"\x01"
    assert merged(component % b"\x81\0") == component % b"\x81\0"


def test_modules_inside_components() -> None:
    """RN190: modules in a component, also in a nested one, are merged, and the rest is
    unchanged."""
    core = '(core module (memory 1) (data (i32.const 0) "seg") (data (i32.const 3) "ment"))'
    text = (
        f'(component {core} (component {core} (core module (memory 1) (data (i32.const 0) "x"))))'
    )
    binary = bytes(wat2wasm(text))
    assert binary.count(b"segment") == 0
    assert merged(binary).count(b"segment") == 2
    assert merged(merged(binary)) == merged(binary)
    broken = binary + b"\x01"
    assert merged(broken) == broken


def test_components_nested_deeply() -> None:
    """RN190: no depth of nesting makes the compiling process fail before wasmtime refuses it."""
    binary = b"\0asm\x0d\0\x01\0"
    for _ in range(3000):
        size = len(binary)
        number = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14])
        binary = b"\0asm\x0d\0\x01\0\x04" + number + binary
    assert merged(binary).startswith(b"\0asm\x0d\0\x01\0\x04")


@given(
    st.lists(
        st.tuples(st.integers(-3, 700) | st.integers(PAGE - 9, PAGE + 9), st.binary(max_size=9))
    ),
    st.integers(0, 2),
)
def test_memories_start_with_the_same_content(
    segments: list[tuple[int, bytes]], pages: int
) -> None:
    """RN190: a merged module has the same memory, and fails where the original fails."""
    binary = module(segments, pages=pages)
    assert content(merged(binary)) == content(binary)
    assert merged(merged(binary)) == merged(binary)


@given(st.data())
def test_any_bytes(data: st.DataObject) -> None:
    """RN190: arbitrary bytes raise no error, and a valid module keeps its memory's content."""
    binary = bytearray(module([(0, b"a"), (1, b"bc"), (400, b"d"), (2, b"e")]))
    for _ in range(data.draw(st.integers(0, 3))):
        binary[data.draw(st.integers(8, len(binary) - 1))] = data.draw(st.integers(0, 255))
    before = content(bytes(binary))
    after = content(merged(bytes(binary)))
    assert before in (None, after)
    head = data.draw(st.sampled_from([b"", b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0"]))
    assert merged(head + data.draw(st.binary())).startswith(head)


@pytest.mark.asyncio(loop_scope="module")
async def test_programs_are_merged_before_they_are_compiled(executor: Executor) -> None:
    """RN10, RN190: the copied bytes of a merged segment are counted, and not those of each."""
    segments = [(8 * number, b"abc") for number in range(1000)]
    program = Guest(module(segments, '(func (export "_start"))'), "wasm32-wasip1")
    result = await run_guest(executor, program)
    assert code(result) == "completed"
    assert 7 * 1000 < result.instructions < 8 * 1000
