"""The engine, and what is linked for a guest: one configuration for the compiling child and the
running ones."""

import re
from typing import Final, TypeAlias

from wasmtime import Config, Engine, FuncType, Linker, Module, Store, WasmtimeError
from wasmtime import component as components

from .guest_http import INTERFACE, GuestHttp, wants

PREVIEW_1: Final = "wasm32-wasip1"
PREVIEW_2: Final = "wasm32-wasip2"
Program: TypeAlias = Module | components.Component
Linkers: TypeAlias = dict[bool, tuple[Linker, components.Linker]]
"""Of modules and of components, by whether the program makes requests."""

# What `add_wasip2` links; it tells nobody. Sockets and name look-ups are linked, and each call of
# them is refused: standard libraries import them for programs that never use one.
_INTERFACES: Final = frozenset(
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
_VERSIONED: Final = re.compile(r"(.+)@0\.2\.[0-9]+")
_RUN: Final = re.compile(r"wasi:cli/run@0\.2\.[0-9]+")


def configured() -> Config:
    """Return the configuration; an artefact of one is of no use to an engine with another."""
    config = Config()
    config.consume_fuel = True  # RN10
    # RN11: what would multiply memories, or let a guest run on several threads, is off.
    config.wasm_multi_memory = config.wasm_memory64 = config.wasm_threads = config.shared_memory = (
        False
    )
    config.wasm_gc = config.gc_support = config.wasm_function_references = (
        config.wasm_exceptions
    ) = False
    config.wasm_stack_switching = config.wasm_custom_page_sizes = False
    config.parallel_compilation = False  # a confined child makes no threads
    # memories are our own (`_linear_memory`), and a confined child makes no file
    config.memory_init_cow = False
    return config


def linkers(engine: Engine, http: GuestHttp) -> Linkers:
    """Return the linkers. Whatever a guest may call is linked here, and nowhere else (RN12)."""
    made: Linkers = {}
    for with_http in (False, True):
        preview_1 = Linker(engine)
        preview_1.define_wasi()
        preview_2 = components.Linker(engine)
        # without `add_wasi_http`, which cannot be told which hosts to refuse
        preview_2.add_wasip2()
        if with_http:  # RN100: for programs that import it
            http.define(preview_1)
            http.define_component(preview_2)
        made[with_http] = preview_1, preview_2
    return made


def makes_requests(engine: Engine, program: Program) -> bool:
    """Tell whether a program imports `sealspace:http/client`."""
    if isinstance(program, components.Component):
        return INTERFACE in program.type.imports(engine)
    return any(wanted.module == INTERFACE for wanted in program.imports)


def missing_imports(engine: Engine, program: Program) -> list[str]:
    """Return the names of imports that nobody offers (RN13)."""
    if isinstance(program, components.Component):
        imports = program.type.imports(engine)
        return sorted(
            name for name, found in imports.items() if not _is_interface(engine, name, found.ty)
        )
    offered = Linker(engine)
    offered.define_wasi()
    GuestHttp(lambda _: b"").define(offered)  # it calls nothing here
    store = Store(engine)
    missing = sorted(
        f"{wanted.module}.{wanted.name}"
        for wanted in program.imports
        if not _is_offered(offered, store, wanted.module, wanted.name or "")
    )
    if not missing:
        try:
            offered.instantiate_pre(program)
        except WasmtimeError as exc:  # one of another type
            missing = [str(exc)]
    return missing


def _is_interface(engine: Engine, name: str, imported: components.ComponentItem) -> bool:
    if name == INTERFACE:
        return wants(engine, imported) is not None
    versioned = _VERSIONED.fullmatch(name)
    return versioned is not None and versioned[1] in _INTERFACES


def _is_offered(linker: Linker, store: Store, module: str, name: str) -> bool:
    try:
        linker.get(store, module, name)
    except WasmtimeError:
        return False
    return True


def start_of(engine: Engine, program: Program) -> str | None:
    """Return the name of the export that a command starts with: `_start`, or the instance that has
    `run`.

    None where there is none, or where it takes or returns something else than a command's.
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
    starts = [found.type for found in program.exports if found.name == "_start"]
    plain = [
        start
        for start in starts
        if isinstance(start, FuncType) and not start.params and not start.results
    ]
    return "_start" if plain else None


def _runs(engine: Engine, interface: components.ComponentItem) -> bool:
    if not isinstance(interface, components.ComponentInstanceType):
        return False
    found = interface.exports(engine).get("run")
    run = found and found.ty
    if (
        not isinstance(run, components.FuncType)
        or run.params
        or not isinstance(run.result, components.ResultType)
    ):
        return False
    return run.result.ok is None and run.result.err is None
