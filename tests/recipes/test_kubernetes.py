"""The manifests of `examples/kubernetes`, as far as they can be checked without a cluster."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from patience import PATIENCE_S
from tests_support import REPOSITORY

from door.cli.door import door
from door.mounts import DEFAULT_MOUNT, parse_mount

FOLDER = REPOSITORY / "examples" / "kubernetes"
FOLDERS = sorted(path.parent for path in FOLDER.glob("*/kustomization.yaml"))
NODE = "did:key:z6MkNODE"
KUBECTL = shutil.which("kubectl")


def _documents(folder: Path) -> Iterator[Any]:
    named = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert {path.name for path in folder.iterdir()} == {"kustomization.yaml", *named}
    for name in named:
        yield from yaml.safe_load_all((folder / name).read_text())


def _pods(folder: Path) -> Iterator[Any]:
    for document in _documents(folder):
        if document["kind"] == "Deployment":
            yield document["spec"]["template"]["spec"]


def _containers(pod: Any) -> list[Any]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def _door_of(pod: Any) -> Any:
    (container,) = (one for one in _containers(pod) if one["name"] == "door")
    return container


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_door_starts_with_its_arguments(folder: Path) -> None:
    """The options of each door exist, and one beyond its pod has TLS."""
    for pod in _pods(folder):
        command, *arguments = _door_of(pod)["args"]
        assert command == "door"
        given = " ".join(arguments)
        # The node's address is an option of every command.
        own = given.replace("--node=", "--node ").replace("--node https://node.example", "")
        own = own.replace("=bafkr4itrust", f"=ba{'a' * 57}").replace("/tls/", "/dev/null#")
        options = [word.replace("/dev/null#tls.crt", "/dev/null") for word in own.split()]
        options = [word.replace("/dev/null#tls.key", "/dev/null") for word in options]
        parsed = door.make_context("door", options)
        host = parsed.params["host"]
        assert host == "127.0.0.1" or parsed.params["tls_certificate"] is not None


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_pod_has_few_rights(folder: Path) -> None:
    """A door runs without privileges and writes nowhere but to memory; tokens are for the node."""
    for pod in _pods(folder):
        context = _door_of(pod)["securityContext"]
        assert context["readOnlyRootFilesystem"] and context["runAsNonRoot"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        for volume in pod["volumes"]:
            if "emptyDir" in volume:
                assert volume["emptyDir"]["medium"] == "Memory"
            for source in volume.get("projected", {}).get("sources", ()):
                assert source["serviceAccountToken"]["audience"] == NODE
        names = {volume["name"] for volume in pod["volumes"]}
        for container in _containers(pod):
            mounted = {one["name"] for one in container.get("volumeMounts", ())}
            assert mounted <= names


def test_no_pod_gets_a_token_for_the_cluster() -> None:
    """Service accounts and pods without a projected token mount none."""
    for folder in FOLDERS:
        for document in _documents(folder):
            if document["kind"] == "ServiceAccount":
                assert document["automountServiceAccountToken"] is False


def test_the_store_of_external_secrets_fits_the_door() -> None:
    """The store names the door's service, mount, version, role and audience."""
    documents = {one["kind"]: one for one in _documents(FOLDER / "external-secrets")}
    for kind in ("SecretStore", "ExternalSecret"):  # v1beta1 is not served from 0.17 on
        assert documents[kind]["apiVersion"] == "external-secrets.io/v1"
    vault = documents["SecretStore"]["spec"]["provider"]["vault"]
    service = documents["Service"]["metadata"]
    (port,) = documents["Service"]["spec"]["ports"]
    server = f"https://{service['name']}.{service['namespace']}.svc:{port['port']}"
    assert vault["server"] == server
    mount = parse_mount(DEFAULT_MOUNT)
    assert (vault["path"], vault["version"]) == (mount.name, f"v{mount.kv}")
    jwt = vault["auth"]["jwt"]
    assert jwt["kubernetesServiceAccountToken"]["audiences"] == [NODE]
    (pod,) = _pods(FOLDER / "external-secrets")
    assert f"--role={jwt['role']}=bafkr4itrust" in _door_of(pod)["args"]
    policy = documents["NetworkPolicy"]["spec"]
    assert policy["podSelector"] == {"matchLabels": {"app": "sealspace-door"}}
    assert policy["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_folder_is_a_kustomization(folder: Path) -> None:
    """`kubectl kustomize` renders every document of a folder."""
    assert KUBECTL is not None
    ran = subprocess.run(
        [KUBECTL, "kustomize", str(folder)], capture_output=True, timeout=PATIENCE_S
    )
    assert ran.returncode == 0, ran.stderr
    rendered = [one for one in yaml.safe_load_all(ran.stdout) if one]
    assert len(rendered) == len([*_documents(folder)])
