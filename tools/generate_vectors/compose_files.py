"""Vectors of what compose files allow (AT71)."""

import json

from generate_vectors.cases import Case

from tee_backend.measuring.compose_files import parse_compose

_IMAGE = "acme/notes@sha256:" + "ab" * 32
_SERVICE = f"services:\n  web:\n    image: {_IMAGE}\n"

_SERVICE_MEMBERS = {
    "nothing": "",
    "privileged_yes": "    privileged: yes\n",
    "privileged_quoted": "    privileged: 'True'\n",
    "privileged_off": "    privileged: Off\n",
    "socket": "    volumes: ['/var/run/docker.sock:/s']\n",
    "socket_folder": "    volumes: ['/var/run/:/run']\n",
    "socket_by_way": "    volumes: ['//var/./lib/../run:/run']\n",
    "root_folder": "    volumes:\n      - type: bind\n        source: /\n        target: /host\n",
    "agent": "    volumes: ['/var/run/dstack.sock:/var/run/dstack.sock']\n",
    "folder": "    volumes: ['./data:/data', 'kept:/kept', '/new']\n",
    "variable_folder": "    volumes: ['${SOURCE}']\n",
    "variable_behind_a_dollar": "    command: sh -c '$$${CODE}'\n    user: $$x\n",
    "variable_in_other_letters": "    command: ${\u017fET} $\u212aEY\n",
    "unpinned_volume": (
        "    volumes:\n      - type: image\n        source: acme/tools:1\n        target: /t\n"
    ),
    "pid_and_ipc": "    pid: host\n    ipc: host\n    network_mode: host\n",
    "ipc_private": "    ipc: private\n    network_mode: none\n",
    "rights": "    cap_add: [SYS_ADMIN]\n    devices: ['/dev/mem:/dev/mem']\n",
    "unconfined": "    security_opt: ['seccomp:unconfined']\n",
    "confined": "    security_opt: ['no-new-privileges:true']\n",
    "others": "    use_api_socket: true\n    volumes_from: [other]\n    env_file: .env\n",
    "provider": "    provider:\n      type: model\n",
    "preload": "    environment:\n      LD_PRELOAD: /x.so\n      API_KEY:\n      LEVEL: debug\n",
    "preload_listed": "    environment: [LD_PRELOAD, 'PYTHONPATH=/x', 'LEVEL=debug']\n",
    "unknown": "    surprise: 1\n    x-note: ours\n",
    "unknown_inside": "    deploy:\n      resources:\n        surprise: 1\n",
    "names_of_objects": "    constructor: 1\n    toString: 1\n",
}
_FILE_MEMBERS = {
    "configs": "configs: {a: {file: ./a}, b: {environment: B}, c: {content: x}}\n",
    "secrets": "secrets: {a: {file: ./a}, b: {environment: B}, c: {external: true}}\n",
    "nfs": "volumes: {a: {driver: local, driver_opts: {type: nfs, device: x}}, b: {}}\n",
    "unknown_member": "surprise: 1\nx-note: ours\n",
    "include": "include: [other.yaml]\n",
}
_APPLICATION_MEMBERS: dict[str, dict[str, object]] = {
    "scripts": {"pre_launch_script": "echo", "init_script": "echo", "bash_script": ""},
    "logs": {"public_logs": True, "public_sysinfo": False},
    "chosen": {"allowed_envs": ["A", "LD_PRELOAD"]},
    "unknown_setting": {"surprise": None},
}


def documents() -> dict[str, tuple[str, list[Case]]]:
    """Return the documents by name: what each is about, and its cases."""
    cases = []
    for name, text in _SERVICE_MEMBERS.items():
        cases.append(_case(f"service_{name}", _SERVICE + text))
    for name, text in _FILE_MEMBERS.items():
        cases.append(_case(f"file_{name}", _SERVICE + text))
    cases.append(_case("unpinned", "services:\n  web:\n    image: acme/notes:1\n  b: {build: .}\n"))
    for name, members in _APPLICATION_MEMBERS.items():
        application = {
            "manifest_version": 2,
            "name": "notes",
            "runner": "docker-compose",
            "docker_compose_file": f"{_SERVICE}    command: ['$NAME', '$$x', '${{OTHER}}']\n",
            **members,
        }
        cases.append(_case(f"application_{name}", json.dumps(application)))
    return {"lines": ("what the members of compose files allow", cases)}


def _case(name: str, text: str) -> Case:
    compose = parse_compose(text.encode(), file="compose.yaml", is_pinned=False)
    lines = [[line.place, line.sentence, line.value] for line in compose.lines]
    return {"name": name, "rules": ["AT71"], "text": text, "expect": {"lines": lines}}
