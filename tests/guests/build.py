"""Build the guest programs of the tests into `built`, with their digests.

Text is compiled by wasmtime, Rust by `rustc` for `wasm32-wasip1` and `wasm32-wasip2`, C by clang
with wasi-libc. What has no compiler here stays as it is, and is named. `digests.json` has each
guest's SHA-256, and the version of the compiler that made it: another version makes other bytes.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
BUILT = HERE / "built"
EXAMPLES = [
    HERE.parents[1] / "examples" / "program" / name for name in ("ask.rs", "ask_c.c", "counter.rs")
]
DIGESTS = BUILT / "digests.json"
_RUST = (
    "-C",
    "opt-level=s",
    "-C",
    "strip=symbols",
    "-C",
    "panic=abort",
    "-C",
    "codegen-units=1",
    "--edition=2021",
)
_INTERFACES = {"sealspace_http": "http.wit", "near:storage": "storage.wit"}
"""File in `spec/runner` of the interface that a source with this text imports."""
_C = ("--target=wasm32-wasi", "-Oz", "-Wl,--strip-all")


def compiler_of(source: Path) -> str | None:
    """Return the version of a source's compiler, or None if it is not installed."""
    if source.suffix == ".wat":
        return f"wasmtime {version('wasmtime')}"
    program = "rustc" if source.suffix == ".rs" else "clang"
    if shutil.which(program) is None:
        return None
    if program == "clang":
        linked = _run("clang", "--target=wasm32-wasi", "-print-file-name=libc.a") != "libc.a"
        return _run("clang", "--version").splitlines()[0] if linked else None
    try:
        libraries = Path(_run("rustc", "--print", "sysroot")) / "lib" / "rustlib"
    except subprocess.CalledProcessError:
        # rustup's program, in a home for which no toolchain was chosen
        return None
    targets = ("wasm32-wasip1", "wasm32-wasip2")
    return (
        _run("rustc", "--version")
        if all((libraries / target / "lib").is_dir() for target in targets)
        else None
    )


def outputs(source: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each guest of a source, with the command that builds it; the path is appended."""
    if source.suffix == ".rs":
        text = source.read_text("utf-8")
        only_component = '#![cfg(target_env = "p2")]' in text
        for target in ("wasm32-wasip1", "wasm32-wasip2")[only_component:]:
            linked = [
                word
                for imported, name in _INTERFACES.items()
                if target == "wasm32-wasip2" and imported in text
                for word in (
                    "-C",
                    f"link-arg=--component-type={HERE.parents[1] / 'spec/runner' / name}",
                )
            ]
            yield (
                f"{source.stem}-{target[-6:]}",
                ["rustc", f"--target={target}", *_RUST, *linked, source.name, "-o"],
            )
    elif source.suffix == ".c":
        yield source.stem, ["clang", *_C, source.name, "-o"]
    else:
        yield source.stem, []


def build(command: list[str], source: Path) -> bytes:
    """Return the bytes of a built guest."""
    if not command:
        from wasmtime import wat2wasm

        return bytes(wat2wasm(source.read_text("utf-8")))
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "guest.wasm"
        subprocess.run([*command, str(made)], check=True, cwd=source.parent)
        return made.read_bytes()


def sources() -> list[Path]:
    """Return every source of a guest."""
    found = [path for suffix in ("wat", "rs", "c") for path in HERE.glob(f"*/*.{suffix}")]
    return sorted([*found, *EXAMPLES])


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Build all guests whose compiler is installed."""
    digests = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
    kept = {}
    for source in sources():
        compiler = compiler_of(source)
        for name, command in outputs(source):
            if compiler is None:
                print(f"left as it is, without its compiler: {name}", file=sys.stderr)
                kept[name] = digests[name]
                continue
            data = build(command, source)
            (BUILT / f"{name}.wasm").write_bytes(data)
            kept[name] = {"sha256": hashlib.sha256(data).hexdigest(), "compiler": compiler}
    DIGESTS.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
