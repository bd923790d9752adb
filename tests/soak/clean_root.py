"""The Containerfile of `examples/deploy`, played without a container engine: `make test-image`, as root.

Each stage is a clean Debian root; what its instructions copy is copied, and what they run is run in it. Then the
image's command is started as the image's user and as process 1, with the root file system read-only, without a
capability, and with one folder to write to.
"""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from containerfile import Instruction, read_containerfile
from tests_support import REPOSITORY

from sealspace.sync import Client, new_wallet

CONTAINERFILE = read_containerfile(REPOSITORY / "examples" / "deploy" / "Containerfile")
BASE = REPOSITORY / ".cache" / "clean-root.tar"
_PACKAGES = "python3,python3-venv,ca-certificates"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Of the machine: how an index is reached from here.
_OUTSIDE = ("PIP_INDEX_URL", "PIP_CERT", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_STEP_S, _WAIT_S = 900, 60


def _new_root(folder: Path) -> Path:
    """Unpack a clean root, which is made once."""
    if not BASE.exists():
        BASE.parent.mkdir(exist_ok=True)
        made = ["mmdebstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", f"{BASE}.part.tar"]
        subprocess.run(made, check=True, timeout=_STEP_S)
        Path(f"{BASE}.part.tar").rename(BASE)
    folder.mkdir()
    subprocess.run(["tar", "--extract", "--file", str(BASE), "--directory", str(folder)], check=True, timeout=_STEP_S)
    return folder


def _confined(mounts: Sequence[str], variables: Mapping[str, str], *command: str) -> list[str]:
    """Return a command in a root of its own, with processes of its own and this machine's network."""
    environment = [part for name, value in variables.items() for part in ("--setenv", name, value)]
    apart = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--as-pid-1", "--die-with-parent", "--cap-add", "ALL"]
    return ["bwrap", *mounts, "--dev", "/dev", "--proc", "/proc", *apart, "--clearenv", *environment, "--", *command]


def _copy(instruction: Instruction, roots: Mapping[str, Path], into: Path) -> None:
    *sources, target = instruction.words
    start = roots[instruction.options["from"]] if "from" in instruction.options else REPOSITORY
    for source in sources:
        found, place = start / source.lstrip("/"), into / target.lstrip("/")
        if found.is_dir():
            shutil.copytree(found, place, symlinks=True, dirs_exist_ok=True, ignore=_unsent)
        else:
            place = place / found.name if target.endswith("/") else place
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, place)


def _unsent(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__" and folder.startswith(str(REPOSITORY))]


def _run(instruction: Instruction, root: Path) -> None:
    outside = {name: os.environ[name] for name in _OUTSIDE if name in os.environ}
    mounts = ["--bind", str(root), "/", "--tmpfs", "/tmp", "--ro-bind", "/etc/resolv.conf", "/etc/resolv.conf"]
    mounts += ["--ro-bind", str(_CERTIFICATES), str(_CERTIFICATES)]
    command = _confined(mounts, {"PATH": _PATH, "HOME": "/root", **outside}, "sh", "-c", instruction.text)
    subprocess.run(command, check=True, timeout=_STEP_S)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root file system that the Containerfile makes."""
    assert os.geteuid() == 0, "it mounts and changes roots: run it as root"
    folder = tmp_path_factory.mktemp("stages")
    roots: dict[str, Path] = {}
    root = folder
    for one in CONTAINERFILE:
        if one.word == "FROM":
            root = roots[one.words[-1]] = _new_root(folder / str(one.stage))
        elif one.word == "COPY":
            _copy(one, roots, root)
        elif one.word == "RUN":
            _run(one, root)
    return root


def _of_the_image(word: str) -> Instruction:
    return next(one for one in reversed(CONTAINERFILE) if one.word == word)


@contextmanager
def _started(image: Path, data: Path, port: int, *command: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Start a command as a container would; yields its process, and the id that process 1 has outside."""
    user, _, group = _of_the_image("USER").text.partition(":")
    dropped = [
        "setpriv",
        "--reuid",
        user,
        "--regid",
        group,
        "--clear-groups",
        "--no-new-privs",
        "--bounding-set",
        "-all",
    ]
    (volume,) = _of_the_image("VOLUME").command or ()
    mounts = ["--ro-bind", str(image), "/", "--bind", str(data), volume]
    mounts += ["--chdir", _of_the_image("WORKDIR").text]
    variables = {"PATH": _PATH, **_of_the_image("ENV").pairs, "SEALSPACE_HTTP__PORT": str(port)}
    reading, writing = os.pipe()
    told = _confined([*mounts, "--info-fd", str(writing)], variables, *dropped, *command)
    with subprocess.Popen(told, pass_fds=[writing], stderr=subprocess.PIPE, text=True) as process:
        os.close(writing)
        with os.fdopen(reading) as info:
            first = json.loads(info.read())["child-pid"]
        try:
            yield process, first
        finally:
            if process.poll() is None:
                process.kill()


def _ended(image: Path, data: Path, port: int, *command: str) -> int:
    with _started(image, data, port, *command) as (process, _):
        return process.wait(_WAIT_S)


def test_the_image(image: Path, tmp_path: Path) -> None:
    """Its node starts, keeps a value, is healthy, ends by SIGTERM in order, and has the value at the next start."""
    found = (image / "data").stat()
    assert (f"{found.st_uid}:{found.st_gid}", stat.S_IMODE(found.st_mode)) == (_of_the_image("USER").text, 0o700)
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    os.chown(data, found.st_uid, found.st_gid)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    health = _of_the_image("HEALTHCHECK").command or ()
    start = (*(_of_the_image("ENTRYPOINT").command or ()), *(_of_the_image("CMD").command or ()))
    assert _ended(image, data, port, "touch", "/opt/sealspace/touched") == 1, "the root is not read-only"
    assert _ended(image, data, port, "touch", "/tmp/touched") == 1
    assert _ended(image, data, port, *health) == 1, "healthy before it runs"
    wallet, read = new_wallet(), []
    for number in range(2):
        with _started(image, data, port, *start) as (process, first):
            assert process.stderr is not None
            assert any(f"listening on http://127.0.0.1:{port}" in line for line in process.stderr)
            assert Path(f"/proc/{first}/status").read_text().partition("Uid:")[2].split()[0] == str(found.st_uid)
            assert _ended(image, data, port, *health) == 0
            with Client(f"http://127.0.0.1:{port}") as client:
                client.sign_in(wallet)
                client.secrets().put(f"SECRET_{number}", "open sesame")
                client.kv().put(f"large/{number}", bytes(1 << 20))
                read.append((client.secrets().list(), client.secrets().get("SECRET_0"), [*client.kv().list()]))
            began = time.monotonic()
            os.kill(first, signal.SIGTERM)
            process.stderr.read()
            assert process.wait(_WAIT_S) == 0
            print(f"ended by SIGTERM after {time.monotonic() - began:.1f} s")
    assert read[0] == (("SECRET_0",), "open sesame", ["large/0"])
    assert read[1] == (("SECRET_0", "SECRET_1"), "open sesame", ["large/0", "large/1"])


def test_what_is_in_the_image(image: Path) -> None:
    """Neither sources nor tools of the build, and nothing that installs."""
    installed = {path.name.partition("-")[0].lower() for path in (image / "opt").rglob("*.dist-info")}
    assert {"sealspace", "aiohttp", "lmdb", "asyncpg"} <= installed
    assert not installed & {"pip", "hatchling", "pytest", "flask", "moto", "mypy"}
    assert not (image / "source").exists() and not (image / "build").exists() and not (image / "wheels").exists()
