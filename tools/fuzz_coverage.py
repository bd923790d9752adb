"""Fuzz the parsers with atheris, guided by the branches that an input reaches.

    python tools/fuzz_coverage.py                             every target, one hour in all
    python tools/fuzz_coverage.py --seconds 600 quotes pem    some targets, ten minutes in all
    python tools/fuzz_coverage.py --seconds 0 --keep          write the corpora of the repository
    python tools/fuzz_coverage.py --reproduce FILE quotes     one input, without atheris

Corpora grow in `.cache/fuzz/corpus`. A finding is printed and stored in `.cache/fuzz/found`. The
status is 1 if there is one.
"""

import argparse
import base64
import io
import json
import lzma
import os
import random
import re
import resource
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from fuzzing.archives import CORPUS, MAX_ARCHIVE_BYTES, read_corpus
from fuzzing.mutations import changed
from fuzzing.targets import TARGETS, Target

REPOSITORY = Path(__file__).resolve().parents[1]
CACHE = REPOSITORY / ".cache" / "fuzz"
FOUND = CACHE / "found"
VECTORS = REPOSITORY / "spec" / "vectors"
MAX_INPUT_BYTES = 20_000
_PACKAGES = [path.parent.name for path in REPOSITORY.glob("*/__init__.py")]
CALL_S, MEMORY_MB = 10, 2048
"""A longer call, or more memory, is a finding."""
_MOST_FINDINGS = 3  # of one target in one run: each stops libFuzzer
_MOST_EXAMPLES = 300
_KEPT_VECTOR_BYTES = 8_000
# Vectors of a package with a folder of another name.
_FOLDERS = {
    "capabilities": ["capabilities"],
    "encryption_network": ["encryption_network"],
    "tee_backend": ["attestation", "manifests"],
    "sealspace": [
        "manifests",
        "datasets",
        "python_programs",
        "recovery",
        "secrets",
        "capabilities",
    ],
    "node": ["encryption_network", "capabilities"],
    "runner": ["python_programs", "secrets"],
    "fuzzing": ["capabilities", "encryption_network"],
}


@dataclass
class Result:
    """What one target did.

    Attributes:
        wall_s: Seconds, by the clock.
        cpu_s: Seconds of the processor.
        runs: Executions.
        edges: Edges of our code that its corpus reaches.
        found: The files of its findings.
    """

    target: Target
    wall_s: float = 0
    cpu_s: float = 0
    runs: int = 0
    edges: int = 0
    inputs: int = 0
    found: tuple[Path, ...] = ()


def corpus_folder(target: Target) -> Path:
    """Return the folder of a target's growing corpus, with the inputs of the repository in it."""
    folder = CACHE / "corpus" / target.name
    if not folder.is_dir():
        folder.mkdir(parents=True)
        vectors = sorted(set(_of_vectors(target)), key=sha256_hex)[:_MOST_EXAMPLES]
        for data in (*target.examples(_MOST_EXAMPLES), *vectors):
            _write(folder, data)
    for data in read_corpus(target.name).values():
        _write(folder, data)
    return folder


def _write(folder: Path, data: bytes) -> None:
    if len(data) <= MAX_INPUT_BYTES:
        (folder / sha256_hex(data)[:40]).write_bytes(data)


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of bytes in hex."""
    return sha256(data).hexdigest()


def _of_vectors(target: Target) -> Iterator[bytes]:
    """Yield the texts, objects and encoded bytes of our own vectors, as inputs of a target."""
    if target.arguments.form == "messagepack":
        return
    package = target.module.removeprefix("tests.").split(".")[0]
    for name in _FOLDERS.get(package, []):
        for path in sorted((VECTORS / name).rglob("*")):
            if path.suffix == ".txt":
                yield from path.read_bytes().splitlines()
            elif path.suffix == ".json":
                yield from _parts(json.loads(path.read_bytes()), target.arguments.form)


def _parts(value: Any, form: str) -> Iterator[bytes]:
    """Yield a JSON value, what is in it, and the bytes that its texts encode."""
    if isinstance(value, dict | list):
        text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        if len(text) <= _KEPT_VECTOR_BYTES and form != "text":
            yield text
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _parts(inner, form)
    elif isinstance(value, str) and form != "json":
        yield value.encode("utf-8", "replace")
        if form == "bytes":
            yield from _decoded(value)


def _decoded(text: str) -> Iterator[bytes]:
    for decode in (bytes.fromhex, lambda one: base64.b64decode(one, validate=True)):
        try:
            yield decode(text)
        except ValueError:
            continue


def load(targets: list[Target]) -> None:
    """Import the tests of targets, and all packages of ours with counters at their branches.

    Raises:
        SystemExit: atheris is not installed, or a package was imported before.
    """
    sys.path.append(str(CACHE / "packages"))
    try:
        import atheris
    except ImportError:
        raise SystemExit("atheris is not installed; run: make fuzz-coverage") from None
    early = sorted(name for name in sys.modules if name.partition(".")[0] in _PACKAGES)
    if early:
        raise SystemExit(f"imported without counters: {', '.join(early)}")
    with atheris.instrument_imports(include=_PACKAGES):
        for target in targets:
            assert target.arguments.types


def _forked(target: Target, *options: str) -> tuple[int, str]:
    """Run libFuzzer in a child, and return its status and what it printed.

    A child costs no imports, and whatever it does to the process ends with it.
    """
    import atheris

    with tempfile.TemporaryFile() as printed:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os.dup2(printed.fileno(), 1)
            os.dup2(printed.fileno(), 2)
            form = target.arguments.form

            def run(data: bytes) -> int:
                # An input that stands for no arguments is kept out of the corpus.
                return 0 if target.run(data) else -1

            def mutate(data: bytes, max_size: int, seed: int) -> bytes:
                mutated = changed(
                    data,
                    form=form,
                    rng=random.Random(seed),
                    change_bytes=lambda part: atheris.Mutate(part, max(len(part) * 2, 64)),
                )
                return mutated[:max_size]

            atheris.Setup([target.name, *options], run, custom_mutator=mutate)
            atheris.Fuzz()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        printed.seek(0)
        return os.waitstatus_to_exitcode(status), printed.read().decode("utf-8", "replace")


def fuzz(target: Target, seconds: float) -> Result:
    """Fuzz a target for some seconds, and print what it did."""
    result = Result(target)
    folder = corpus_folder(target)
    FOUND.mkdir(parents=True, exist_ok=True)
    begun, before = time.monotonic(), _cpu_s()
    while len(result.found) < _MOST_FINDINGS:
        left_s = round(seconds - (time.monotonic() - begun))
        if left_s < 1 and result.runs:
            break
        status, printed = _forked(
            target,
            str(folder),
            f"-max_total_time={max(1, left_s)}",
            f"-timeout={CALL_S}",
            f"-rss_limit_mb={MEMORY_MB}",
            f"-max_len={MAX_INPUT_BYTES}",
            f"-artifact_prefix={FOUND}/{target.name}-",
            "-print_final_stats=1",
        )
        result.runs += _last(r"number_of_executed_units:\s+(\d+)", printed)
        result.edges = max(result.edges, _last(r" cov: (\d+)", printed))
        found = re.findall(r"Test unit written to (\S+)", printed)
        if status == 0:
            break
        _print_finding(target, printed, found)
        # A process that ends without an input is a finding too.
        result.found += tuple(map(Path, found)) or (FOUND,)
        for path in map(Path, found):
            # If it is one of the first inputs, the next process would not get past it.
            (folder / sha256_hex(path.read_bytes())[:40]).unlink(missing_ok=True)
    result.wall_s, result.cpu_s = time.monotonic() - begun, _cpu_s() - before
    result.inputs = sum(1 for _ in folder.iterdir())
    print(
        f"{target.name:24} {result.wall_s:6.0f} s {result.cpu_s:6.0f} s CPU"
        f" {result.runs:9} runs {result.edges:5} edges {result.inputs:5} inputs"
        f" {len(result.found):2} findings",
        flush=True,
    )
    return result


def _last(pattern: str, text: str) -> int:
    numbers = re.findall(pattern, text)
    return int(numbers[-1]) if numbers else 0


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _print_finding(target: Target, printed: str, found: list[str]) -> None:
    """Print the part of libFuzzer's text that says what happened."""
    _, _, told = printed.partition(" === Uncaught Python exception: ===")
    text = told.partition("==")[0] if told else printed
    lines = [line for line in text.strip().splitlines() if not line.startswith(("#", "INFO:"))]
    print("\n".join([f"--- finding in {target.name}: {' '.join(found)}", *lines[-40:]]), flush=True)


# --- the corpus of the repository -----------------------------------------------------------------


def keep(target: Target) -> int:
    """Write a target's small corpus, and return its number of bytes.

    It has a small set of inputs that together reach every branch that the large corpus reaches. The
    largest ones are left out until the archive is within its bound. Inputs named `found-…` always
    stay.
    """
    folder = corpus_folder(target)
    found = {
        name: data for name, data in read_corpus(target.name).items() if name.startswith("found-")
    }
    chosen = _smallest_set(target, sorted(folder.iterdir(), key=lambda path: path.stat().st_size))
    archive = _archived(found, chosen)
    while len(archive) > MAX_ARCHIVE_BYTES:
        chosen.pop()
        archive = _archived(found, chosen)
    CORPUS.mkdir(exist_ok=True)
    (CORPUS / f"{target.name}.tar.xz").write_bytes(archive)
    print(f"{target.name:24} {len(chosen):4} inputs {len(archive):6} bytes", flush=True)
    return len(archive)


def _smallest_set(target: Target, files: list[Path]) -> list[bytes]:
    """Return the contents of files, each of which reaches a branch that no earlier one reaches.

    Inputs that are findings are left out.
    """
    status, lines = _merged(target, files)
    while status != 0:
        begun = [int(number) for word, number, *_ in lines if word == "STARTED"]
        if not begun:
            raise SystemExit(f"the corpus of {target.name} is not merged")
        files = [file for place, file in enumerate(files) if place != begun[-1]]
        status, lines = _merged(target, files)
    reached = set[str]()
    chosen = []
    for number, *edges in (line[1:] for line in lines if line[0] == "COV"):
        if not reached.issuperset(edges):
            reached.update(edges)
            chosen.append(files[int(number)].read_bytes())
    return chosen


def _merged(target: Target, files: list[Path]) -> tuple[int, list[list[str]]]:
    """Run files through a target, and return the status and the words of each line about them.

    libFuzzer's own `-merge=1` starts its program anew, and a fork has no program of its own. So
    this gives the process of a merge its control file, and reads what it has added: the number of
    each file that was begun, and the edges that it reached.
    """
    with tempfile.NamedTemporaryFile(mode="w+", prefix="sealspace-fuzz-") as control:
        head = list(map(str, [len(files), 0, *files]))
        control.write("\n".join(head) + "\n")
        control.flush()
        status, _ = _forked(
            target,
            "-merge_inner=1",
            f"-merge_control_file={control.name}",
            f"-timeout={CALL_S}",
            f"-max_len={MAX_INPUT_BYTES}",
        )
        control.seek(0)
        return status, [line.split() for line in control.readlines()[len(head) :] if line.strip()]


def _archived(found: dict[str, bytes], chosen: list[bytes]) -> bytes:
    """Return inputs as an archive whose bytes depend on nothing else."""
    packed = io.BytesIO()
    named = found | {sha256_hex(data)[:8]: data for data in chosen}
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(named.items(), key=lambda one: (len(one[1]), one[0])):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return lzma.compress(packed.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def main() -> int:
    """Do what the command line says, and return the status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all by default")
    parser.add_argument(
        "--seconds", type=float, default=3600, help="of all targets together; 0 for none"
    )
    parser.add_argument("--keep", action="store_true", help="then write the small corpora")
    parser.add_argument("--reproduce", type=Path, metavar="FILE", help="run a target on one input")
    asked = parser.parse_args()
    if unknown := [name for name in asked.targets if name not in TARGETS]:
        parser.error(f"no such target: {', '.join(unknown)}; there are: {', '.join(TARGETS)}")
    targets = [TARGETS[name] for name in asked.targets or TARGETS]
    if asked.reproduce is not None:
        for target in targets:
            print(target.name, "ran" if target.run(asked.reproduce.read_bytes()) else "no input")
        return 0
    load(targets)
    shares = sum(target.source for target in targets)
    results = []
    for target in targets:
        if asked.seconds > 0:
            results.append(fuzz(target, asked.seconds * target.source / shares))
        if asked.keep:
            keep(target)
    found = sum(len(result.found) for result in results)
    print(
        f"{len(results)} targets, {sum(one.cpu_s for one in results):.0f} s CPU,"
        f" {sum(one.runs for one in results)} runs, {found} findings"
    )
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
