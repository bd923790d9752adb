"""Tests of the Containerfile of `examples/deploy`, built on a clean root (`make test-image`, as
root).

Then the image's command is started as a container would: as the image's user and as process 1, with
the root file system read-only, without a capability, and with one folder to write to.
"""

import json
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests_support import REPOSITORY

from sealspace.sync import Client, new_wallet

BASE = REPOSITORY / ".cache" / "clean-root.tar"
_PACKAGES = "python3,python3-venv,ca-certificates"
_BASE_NAME = "localhost/clean-root:1"
# Of the machine: how an index is reached from here.
_OUTSIDE = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
_STEP_S, _WAIT_S = 900, 60


@dataclass(frozen=True)
class Image:
    """A built image.

    Attributes:
        root: its file system.
        config: how its container is started, as engines have it.
    """

    root: Path
    config: Mapping[str, Any]

    @property
    def ids(self) -> tuple[int, int]:
        """User and group that it runs as."""
        user, _, group = self.config["User"].partition(":")
        return int(user), int(group)

    @contextmanager
    def started(
        self, data: Path, port: int, *command: str
    ) -> Iterator[tuple["subprocess.Popen[str]", int]]:
        """Start a command as a container would; yield its process and the outer id of its process
        1."""
        user, group = map(str, self.ids)
        (volume,) = self.config["Volumes"]
        variables = {
            **dict(one.split("=", 1) for one in self.config["Env"]),
            "SEALSPACE_HTTP__PORT": str(port),
        }
        reading, writing = os.pipe()
        told = [
            *(
                "bwrap",
                "--ro-bind",
                str(self.root),
                "/",
                "--bind",
                str(data),
                volume,
                "--dev",
                "/dev",
                "--proc",
                "/proc",
            ),
            *(
                "--chdir",
                self.config["WorkingDir"],
                "--as-pid-1",
                "--unshare-pid",
                "--unshare-ipc",
                "--unshare-uts",
            ),
            *("--die-with-parent", "--cap-add", "ALL", "--info-fd", str(writing), "--clearenv"),
            *(part for name, value in variables.items() for part in ("--setenv", name, value)),
            *(
                "--",
                "setpriv",
                "--reuid",
                user,
                "--regid",
                group,
                "--clear-groups",
                "--no-new-privs",
            ),
            *("--bounding-set", "-all", *command),
        ]
        with subprocess.Popen(
            told, pass_fds=[writing], stderr=subprocess.PIPE, text=True
        ) as process:
            os.close(writing)
            with os.fdopen(reading) as info:
                first = json.loads(info.read())["child-pid"]
            try:
                yield process, first
            finally:
                if process.poll() is None:
                    process.kill()

    def ended(self, data: Path, port: int, *command: str) -> int:
        """Run a command to its end; return its exit status."""
        with self.started(data, port, *command) as (process, _):
            return process.wait(_WAIT_S)


def _clean_root() -> Path:
    """Return an archive of a clean root, which is made once."""
    if not BASE.exists():
        BASE.parent.mkdir(exist_ok=True)
        made = [
            "mmdebstrap",
            "--variant=minbase",
            f"--include={_PACKAGES}",
            "bookworm",
            f"{BASE}.part.tar",
        ]
        subprocess.run(made, check=True, timeout=_STEP_S)
        Path(f"{BASE}.part.tar").rename(BASE)
    return BASE


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image on our own base instead of the one that the Containerfile names."""
    assert os.geteuid() == 0, "it mounts and changes roots: run it as root"
    kept = tmp_path_factory.mktemp("images")
    places = (
        "--storage-driver",
        "vfs",
        "--root",
        str(kept / "root"),
        "--runroot",
        str(kept / "run"),
    )

    def buildah(*arguments: str) -> str:
        done = subprocess.run(
            ["buildah", *places, *arguments], stdout=subprocess.PIPE, check=True, timeout=_STEP_S
        )
        return done.stdout.decode().strip()

    base = buildah("from", "scratch")
    buildah("add", "--quiet", base, str(_clean_root()), "/")
    buildah("commit", "--quiet", base, _BASE_NAME)
    outside = [
        part
        for file in _OUTSIDE
        if Path(file).exists()
        for part in ("--volume", f"{file}:{file}:ro")
    ]
    options = (
        "--isolation",
        "chroot",
        "--network",
        "host",
        "--pull-never",
        "--format",
        "docker",
        *outside,
    )
    containerfile = str(REPOSITORY / "examples" / "deploy" / "Containerfile")
    buildah(
        "bud",
        *options,
        "--build-arg",
        f"BASE={_BASE_NAME}",
        "--file",
        containerfile,
        "--tag",
        "built",
        str(REPOSITORY),
    )
    config = json.loads(buildah("inspect", "--type", "image", "built"))["Docker"]["config"]
    container = buildah("from", "--pull-never", "built")
    yield Image(Path(buildah("mount", container)), config)
    buildah("rm", "--all")


def test_the_image(image: Image, tmp_path: Path) -> None:
    """The image's node starts, stores a value, is healthy, ends by SIGTERM, and has the value after
    a restart."""
    found = (image.root / "data").stat()
    assert (found.st_uid, found.st_gid) == image.ids
    assert stat.S_IMODE(found.st_mode) == 0o700
    assert 0 not in image.ids
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    os.chown(data, *image.ids)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kind, *health = image.config["Healthcheck"]["Test"]
    assert kind == "CMD" and image.config["StopSignal"] == "SIGTERM"
    start = (*image.config["Entrypoint"], *image.config["Cmd"])
    assert image.ended(data, port, "touch", "/opt/sealspace/touched") == 1, (
        "the root is not read-only"
    )
    assert image.ended(data, port, "touch", "/tmp/touched") == 1
    assert image.ended(data, port, *health) == 1, "healthy before it runs"
    wallet, read = new_wallet(), []
    for number in range(2):
        with image.started(data, port, *start) as (process, first):
            assert process.stderr is not None
            assert any(f"listening on http://127.0.0.1:{port}" in line for line in process.stderr)
            assert Path(f"/proc/{first}/status").read_text().partition("Uid:")[2].split()[0] == str(
                found.st_uid
            )
            assert image.ended(data, port, *health) == 0
            with Client(f"http://127.0.0.1:{port}") as client:
                client.sign_in(wallet)
                client.secrets().put(f"SECRET_{number}", "open sesame")
                client.kv().put(f"large/{number}", bytes(1 << 20))
                read.append(
                    (
                        client.secrets().list(),
                        client.secrets().get("SECRET_0"),
                        [*client.kv().list()],
                    )
                )
            began = time.monotonic()
            os.kill(first, signal.SIGTERM)
            process.stderr.read()
            assert process.wait(_WAIT_S) == 0
            print(f"ended by SIGTERM after {time.monotonic() - began:.1f} s")
    assert read[0] == (("SECRET_0",), "open sesame", ["large/0"])
    assert read[1] == (("SECRET_0", "SECRET_1"), "open sesame", ["large/0", "large/1"])


def test_what_is_in_the_image(image: Image) -> None:
    """The image contains no sources or build tools, and no package installer."""
    installed = {
        path.name.partition("-")[0].lower() for path in (image.root / "opt").rglob("*.dist-info")
    }
    assert {"sealspace", "aiohttp", "lmdb", "asyncpg"} <= installed
    assert not installed & {"pip", "hatchling", "pytest", "flask", "moto", "mypy"}
    assert (
        not (image.root / "source").exists()
        and not (image.root / "build").exists()
        and not (image.root / "wheels").exists()
    )
