"""The wasmtime configuration and host interfaces for guest programs."""

import re
from typing import TypeAlias

from wasmtime import Config, Engine, FuncType, Linker, Module, Store, WasmtimeError
from wasmtime import component as components

from .guest_http import INTERFACE, GuestHttp, imported_fetch

PREVIEW_1 = "wasm32-wasip1"
PREVIEW_2 = "wasm32-wasip2"
Program: TypeAlias = Module | components.Component
Linkers: TypeAlias = dict[bool, tuple[Linker, components.Linker]]
"""Linkers of modules and of components, by whether the program imports the HTTP client."""

# The interfaces that `add_wasip2` links; wasmtime has no way to list them. Sockets and name
# look-ups are linked because standard libraries import them, but every call of them fails.
_INTERFACES = frozenset(
    f"wasi:{package}/{interface}"
    for package, interfaces in {
        "cli": (
            "environment exit stderr stdin stdout terminal-input terminal-output terminal-stderr"
            " terminal-stdin terminal-stdout"
        ),
        "clocks": "monotonic-clock wall-clock",
        "filesystem": "preopens types",
        "io": "error poll streams",
        "random": "insecure insecure-seed random",
        "sockets": (
            "instance-network ip-name-lookup network tcp tcp-create-socket udp udp-create-socket"
        ),
    }.items()
    for interface in interfaces.split()
)
_VERSIONED = re.compile(r"(.+)@0\.2\.[0-9]+")
_RUN = re.compile(r"wasi:cli/run@0\.2\.[0-9]+")


def configured(*, multi_memory: bool = True) -> Config:
    """Return the wasmtime configuration for compiling and running programs.

    Both must use the same configuration, but for `multi_memory`, which only the compiler reads.
    """
    config = Config()
    config.consume_fuel = True  # RN10
    # RN11: wasmtime links the modules of a component by modules of its own with several memories.
    config.wasm_multi_memory = multi_memory
    # RN11: these features would get around the limits of a run.
    config.wasm_memory64 = config.wasm_threads = config.shared_memory = False
    config.wasm_gc = config.gc_support = config.wasm_function_references = (
        config.wasm_exceptions
    ) = False
    config.wasm_stack_switching = config.wasm_custom_page_sizes = False
    config.parallel_compilation = False  # a confined child cannot start threads
    # `linear_memory` allocates the memories, and a confined child cannot create a memory file.
    config.memory_init_cow = False
    return config


def linkers(engine: Engine, http: GuestHttp) -> Linkers:
    """Return the linkers that define the host functions (RN12).

    Guests can call no other functions.
    """
    made: Linkers = {}
    for with_http in (False, True):
        preview_1 = Linker(engine)
        preview_1.define_wasi()
        preview_2 = components.Linker(engine)
        # Without `add_wasi_http`, which has no way to refuse a host.
        preview_2.add_wasip2()
        if with_http:  # RN100: only for programs that import it
            http.define(preview_1)
            http.define_component(preview_2)
        made[with_http] = preview_1, preview_2
    return made


def makes_requests(engine: Engine, program: Program) -> bool:
    """Return whether a program imports the HTTP client."""
    if isinstance(program, components.Component):
        return INTERFACE in program.type.imports(engine)
    return any(imported.module == INTERFACE for imported in program.imports)


def missing_imports(engine: Engine, program: Program) -> list[str]:
    """Return a program's unavailable imports (RN13).

    For an import with a wrong type, the list contains wasmtime's error message instead of the name.
    """
    if isinstance(program, components.Component):
        imports = program.type.imports(engine)
        return sorted(
            name for name, found in imports.items() if not _is_interface(engine, name, found.ty)
        )
    offered = Linker(engine)
    offered.define_wasi()
    GuestHttp(lambda _: b"").define(offered)  # only its types matter here; it is never called
    store = Store(engine)
    missing = sorted(
        f"{imported.module}.{imported.name}"
        for imported in program.imports
        if not _is_offered(offered, store, imported.module, imported.name or "")
    )
    if not missing:
        try:
            offered.instantiate_pre(program)
        except WasmtimeError as exc:  # an import has another type
            missing = [str(exc)]
    return missing


def _is_interface(engine: Engine, name: str, imported: components.ComponentItem) -> bool:
    if name == INTERFACE:
        return imported_fetch(engine, imported) is not None
    versioned = _VERSIONED.fullmatch(name)
    return versioned is not None and versioned[1] in _INTERFACES


def _is_offered(linker: Linker, store: Store, module: str, name: str) -> bool:
    try:
        linker.get(store, module, name)
    except WasmtimeError:
        return False
    return True


def start_of(engine: Engine, program: Program) -> str | None:
    """Return the name of a program's entry point, or None.

    The entry point of a module is the function `_start`. That of a component is an instance of
    `wasi:cli/run`.
    """
    if isinstance(program, components.Component):
        exports = program.type.exports(engine)
        return next(
            (
                name
                for name, found in exports.items()
                if _RUN.fullmatch(name) and _runs(engine, found.ty)
            ),
            None,
        )
    has_start = any(
        found.name == "_start"
        and isinstance(found.type, FuncType)
        and not found.type.params
        and not found.type.results
        for found in program.exports
    )
    return "_start" if has_start else None


def _runs(engine: Engine, interface: components.ComponentItem) -> bool:
    if not isinstance(interface, components.ComponentInstanceType):
        return False
    found = interface.exports(engine).get("run")
    run = found and found.ty
    return (
        isinstance(run, components.FuncType)
        and not run.params
        and isinstance(run.result, components.ResultType)
        and run.result.ok is run.result.err is None
    )
