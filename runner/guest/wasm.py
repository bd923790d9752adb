"""The wasmtime configuration and host interfaces for guest programs."""

import re

from wasmtime import Config, Engine, FuncType, Linker, Module, Store, WasmtimeError
from wasmtime import component as components

from . import guest_http as _http
from . import guest_python as _python
from . import guest_storage as _storage
from .component_calls import Exchange

PREVIEW_1 = "wasm32-wasip1"
PREVIEW_2 = "wasm32-wasip2"
Program = Module | components.Component

# The interfaces that `add_wasip2` links; wasmtime has no way to list them. Sockets and name
# look-ups are linked because standard libraries import them, but every call of them fails.
_INTERFACES = frozenset(
    {
        "wasi:cli/environment",
        "wasi:cli/exit",
        "wasi:cli/stderr",
        "wasi:cli/stdin",
        "wasi:cli/stdout",
        "wasi:cli/terminal-input",
        "wasi:cli/terminal-output",
        "wasi:cli/terminal-stderr",
        "wasi:cli/terminal-stdin",
        "wasi:cli/terminal-stdout",
        "wasi:clocks/monotonic-clock",
        "wasi:clocks/wall-clock",
        "wasi:filesystem/preopens",
        "wasi:filesystem/types",
        "wasi:io/error",
        "wasi:io/poll",
        "wasi:io/streams",
        "wasi:random/insecure",
        "wasi:random/insecure-seed",
        "wasi:random/random",
        "wasi:sockets/instance-network",
        "wasi:sockets/ip-name-lookup",
        "wasi:sockets/network",
        "wasi:sockets/tcp",
        "wasi:sockets/tcp-create-socket",
        "wasi:sockets/udp",
        "wasi:sockets/udp-create-socket",
    }
)
_OWN = frozenset({_http.INTERFACE, _storage.INTERFACE})
"""The interfaces that the runner itself answers."""
_VERSIONED = re.compile(r"(.+)@0\.2\.[0-9]+")
_RUN = re.compile(r"wasi:cli/run@0\.2\.[0-9]+")


def configured(*, multi_memory: bool = True) -> Config:
    """Return the wasmtime configuration for compiling and running programs.

    Both must use the same configuration, but for `multi_memory`, which only the compiler reads.
    """
    config = Config()
    config.consume_fuel = True  # instructions are counted and limited as fuel (RN10)
    # RN11: wasmtime links the modules of a component by modules of its own with several memories.
    config.wasm_multi_memory = multi_memory
    # RN11: these features would get around the limits of a run.
    config.wasm_memory64 = False
    config.wasm_threads = False
    config.shared_memory = False
    config.wasm_gc = False
    config.gc_support = False
    config.wasm_function_references = False
    config.wasm_exceptions = False
    config.wasm_stack_switching = False
    config.wasm_custom_page_sizes = False
    config.parallel_compilation = False  # a confined child cannot start threads
    # `linear_memory` allocates the memories, and a confined child cannot create a memory file.
    config.memory_init_cow = False
    return config


def linkers(
    engine: Engine, http: _http.GuestHttp, python: _python.GuestPython, exchange: Exchange
) -> tuple[Linker, components.Linker]:
    """Return the linkers that define the host functions (RN12).

    Guests can call no other functions.
    """
    preview_1, preview_2 = Linker(engine), components.Linker(engine)
    preview_1.define_wasi()
    preview_2.add_wasip2()  # without `add_wasi_http`, which has no way to refuse a host
    http.define(preview_1)
    http.define_component(preview_2)
    _storage.define(preview_2, exchange)
    python.define(preview_2)
    return preview_1, preview_2


def makes_requests(engine: Engine, program: components.Component) -> bool:
    """Return whether a component imports the HTTP client or the storage of its project."""
    return not _OWN.isdisjoint(program.type.imports(engine))


def missing_imports(engine: Engine, program: Program, *, is_base: bool = False) -> list[str]:
    """Return a program's unavailable imports (RN13).

    Only a Python base may import the program that it runs (PY10).

    For an import with a wrong type, the list contains wasmtime's error message instead of the name.
    """
    if isinstance(program, components.Component):
        missing = []
        for name, imported_item in program.type.imports(engine).items():
            if not (is_base and name == _python.INTERFACE):
                missing += _missing_in(engine, name, imported_item.ty)
        return sorted(missing)
    linker = Linker(engine)
    linker.define_wasi()
    # Only its types matter here; it is never called.
    _http.GuestHttp(lambda *_: b"").define(linker)
    store = Store(engine)
    missing = []
    for imported in program.imports:
        try:
            linker.get(store, imported.module, imported.name or "")
        except WasmtimeError:
            missing.append(f"{imported.module}.{imported.name}")
    if not missing:
        try:
            linker.instantiate_pre(program)  # checks the types, and runs nothing
        except WasmtimeError as exc:  # an import has another type
            missing = [str(exc)]
    return sorted(missing)


def _missing_in(engine: Engine, name: str, imported: components.ComponentItem) -> list[str]:
    """Return what is not offered of a component's import: the interface or its functions."""
    if name in _OWN:
        wanted = _functions(engine, imported)
        if not wanted:  # it is imported as something other than an interface with functions
            return [name]
        types = components.Component(engine, f"(component {_http.TYPE} {_storage.TYPE})").type
        offered = _functions(engine, types.imports(engine)[name].ty)
        # RN205: functions that are unknown or have another type are named one by one
        return [f"{name} {one}" for one in wanted if wanted[one] != offered.get(one)]
    versioned = _VERSIONED.fullmatch(name)
    is_offered = versioned is not None and versioned[1] in _INTERFACES
    return [] if is_offered else [name]


def _functions(
    engine: Engine, interface: components.ComponentItem
) -> dict[str, tuple[object, object]]:
    """Return the parameters and the result of each function of an interface.

    An item that is no interface has none.
    """
    if not isinstance(interface, components.ComponentInstanceType):
        return {}
    members = interface.exports(engine)
    return {
        name: (kind.params, kind.result)
        for name, member in members.items()
        if isinstance(kind := member.ty, components.FuncType)
    }


def start_of(engine: Engine, program: Program) -> str | None:
    """Return the name of a program's entry point, or None.

    The entry point of a module is the function `_start`. That of a component is an instance of
    `wasi:cli/run`.
    """
    if isinstance(program, components.Component):
        for name, exported in program.type.exports(engine).items():
            if _RUN.fullmatch(name) and _runs(engine, exported.ty):
                return name
        return None
    has_start = any(
        exported.name == "_start"
        and isinstance(exported.type, FuncType)
        and not exported.type.params
        and not exported.type.results
        for exported in program.exports
    )
    return "_start" if has_start else None


def _runs(engine: Engine, interface: components.ComponentItem) -> bool:
    """Return whether an interface has the function `run` without parameters, of type `result`."""
    if not isinstance(interface, components.ComponentInstanceType):
        return False
    exported = interface.exports(engine).get("run")
    if exported is None:
        return False
    run = exported.ty
    return (
        isinstance(run, components.FuncType)
        and not run.params
        and isinstance(run.result, components.ResultType)
        and run.result.ok is None
        and run.result.err is None
    )
