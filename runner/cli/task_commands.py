"""Commands that grant secrets for tasks, make tasks, and fetch their results."""

import asyncio
import json
import re
from collections.abc import Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import click
import msgspec

from capabilities.strict_base64 import decode_url
from capabilities.strict_json import Json, JsonObject, parse_json, shaped
from encryption_network.canonical_json import canonical_bytes
from sealspace.apps.runner_answers import error_text
from sealspace.apps.runners import start_of
from sealspace.cli.options.paths import NEW_FOLDER, file_option, read_named
from sealspace.cli.owner.contact_names import naming
from sealspace.cli.terminal import facts, flag_option, print_result, repeatable_option, tell
from sealspace.client import Client
from sealspace.documents.iexec_names import (
    RESULT_KEY_NAME,
    address_of,
    app_secret,
    dataset_secret,
    requester_secret,
    wallet_secret,
)
from sealspace.documents.iexec_results import decrypt_result
from sealspace.documents.published import MAX_PUBLISHED_BYTES
from sealspace.errors import InvalidInput, StatementInvalid
from sealspace.private_files import replace_file
from sealspace.service.command_errors import RunFailed
from tee_backend.cli.granting import BackendVerifier, verifier_options
from tee_backend.cli.provided_receipts import startup_evidence

from ..calls.run_receipts import verify_run
from .call_commands import with_call_right
from .program_commands import project_of
from .run_granting import grant_runner

_POLL_S = 1.0
_PAIRS_OPTION = "--secret"
_PAIR = re.compile("[0-9]+=")
_MAX_KEY_BYTES = 16 * 1024


@click.command(
    # These are the options of `runner grant` that this command neither sets nor leaves out.
    params=[
        parameter
        for parameter in grant_runner.params
        if parameter.name not in ("secrets", "programs", "refreshes", "everything")
    ],
    epilog="Example of a requester: `sealspace task grant https://runner.example --app DID/NAME"
    " --requester-secret my-key --result-key`. The other options are those of `sealspace"
    " runner grant`.",
)
@click.option("--app", metavar="DID/NAME", required=True, help="The application.")
@repeatable_option(
    "--requester-secret",
    "names",
    metavar="NAME",
    help="A secret of yours as a requester; repeatable.",
)
@flag_option("--app-secret", "has_app", help="The secret of this application, if it is yours.")
@click.option("--dataset", metavar="NAME", help="The key of this data set of yours.")
@flag_option("--result-key", "has_key", help="Your public key, which results are encrypted to.")
@naming(projects=["app"])
@click.pass_context
def grant(
    context: click.Context,
    /,
    app: str,
    names: tuple[str, ...],
    has_app: bool,
    dataset: str | None,
    has_key: bool,
    **options: Any,
) -> None:
    """Verify the runner at URL and grant it secrets for tasks of one application.

    The command is `sealspace runner grant` with the names that iExec gives to secrets.
    """
    project = project_of(app)
    secrets = [*map(requester_secret, names)]
    if has_app:
        secrets.append(app_secret(address_of("app", project)))
    if dataset is not None:
        secrets.append(dataset_secret(address_of("dataset", project_of(dataset))))
    if has_key:
        secrets.append(wallet_secret(RESULT_KEY_NAME))
    context.invoke(
        grant_runner,
        secrets=tuple([secret.label for secret in secrets]),
        programs=(project.text,),
        **options,
    )


_output = click.option(
    "--output",
    "folder",
    type=NEW_FOLDER,
    help="Folder for the result and its receipt. Default: a folder with the id of the task.",
)
_private_key = file_option(
    "--result-key-file",
    "key_file",
    help="Private key (PEM) that decrypts the result. `iexec result generate-encryption-keypair`"
    " writes it to .secrets/beneficiary/0x…_key.",
)


class _WithPairs(click.Command):
    """A command whose option `--secret` takes several pairs, as that of iExec's client does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments after `--secret 1=A 3=B` became `--secret 1=A --secret 3=B`."""
        return super().parse_args(ctx, with_each_pair(args))


def with_each_pair(args: Sequence[str]) -> list[str]:
    """Insert `--secret` in front of each INDEX=NAME that follows another one."""
    expanded: list[str] = []
    words = iter(args)
    is_after_pair = False  # whether the word before is the value of `--secret`
    for word in words:
        if word == "--":
            expanded.append(word)
            break  # the rest are arguments
        if is_after_pair and _PAIR.match(word):
            expanded += [_PAIRS_OPTION, word]
        elif word == _PAIRS_OPTION:
            value = islice(words, 1)  # the next word, if there is one
            expanded += [word, *value]
            is_after_pair = True
        else:
            expanded.append(word)
            is_after_pair = word.startswith(f"{_PAIRS_OPTION}=")
    remaining_words = [*words]
    return expanded + remaining_words


@click.command(
    cls=_WithPairs,
    epilog="Example: `sealspace task run https://runner.example DID/NAME --secret 1=my-namespace"
    " 2=my-key --args 'count 3' --watch`.",
)
@repeatable_option(
    _PAIRS_OPTION,
    "secrets",
    metavar="INDEX=NAME…",
    help="Secrets that the application reads as IEXEC_REQUESTER_SECRET_<INDEX>; repeatable.",
)
@click.option("--dataset", metavar="DID/NAME", help="Data set that the application reads.")
@click.option(
    "--args", "arguments", default="", help="Arguments of the application, as in a shell."
)
@click.option("--beneficiary", metavar="DID|NAME", help="Who can decrypt the result. Default: you.")
@flag_option("--watch", help="Wait for the end of the task, and download the result.")
@_private_key
@_output
@verifier_options
@click.argument("app", metavar="DID/NAME")
@naming(projects=["app", "dataset"], owners=["beneficiary"])
def run(
    url: str,
    app: str,
    secrets: tuple[str, ...],
    dataset: str | None,
    arguments: str,
    beneficiary: str | None,
    watch: bool,
    **delivery: Any,
) -> None:
    """Make a task: run an application with secrets, a data set and files.

    The runner refuses the task at once if a secret is not granted.
    """
    project = project_of(app).text
    names_by_index = {}
    for text in secrets:  # of several with the same index, the last one counts
        pair = re.fullmatch("([1-9][0-9]{0,8})=(.+)", text)
        if pair is None:
            raise InvalidInput(
                f"cannot pass the secret {text}: it is not INDEX=NAME with an index from 1",
                hint="--secret 1=NAME, which is IEXEC_REQUESTER_SECRET_1 in the application",
            )
        index, name = pair.groups()
        names_by_index[index] = name
    request = {
        "app": project,
        "secrets": names_by_index,
        "args": arguments,
        "dataset": dataset and project_of(dataset).text,
        "beneficiary": beneficiary,
    }
    body = json.dumps(request).encode()

    async def make_task(client: Client) -> JsonObject:
        task = await client.runners.make_task(url, project, body)
        job = str(task["job"])
        tell(f"made the task {job}")
        if not watch:
            return task
        return await _download_result(client, url, job, request=body, **delivery)

    print_result(with_call_right(make_task))


@click.command(epilog="Example: `sealspace task show https://runner.example ID`.")
@click.argument("url")
@click.argument("job", metavar="ID")
def show(url: str, job: str) -> None:
    """Show the state of the task ID.

    Its output and its error output are shown too, if every secret of the task is yours.
    """
    task = with_call_right(lambda client: client.runners.task(url, job))
    for stream in ("stdout", "stderr"):
        tell(*str(task.get(stream, "")).splitlines())
    summary: JsonObject = {"job": job, "state": _state_words(task)}
    cause = task.get("cause")
    if isinstance(cause, dict):
        summary |= cause
    print_result(task, facts(summary))


@click.command(epilog="Example: `sealspace task download https://runner.example ID`.")
@_private_key
@_output
@verifier_options
@click.argument("job", metavar="ID")
def download(url: str, job: str, **delivery: Any) -> None:
    """Wait for the end of the task ID, download its result, and verify the receipt."""
    print_result(with_call_right(lambda client: _download_result(client, url, job, **delivery)))


def _state_words(task: JsonObject) -> str:
    """Describe the state and the stage of a task."""
    state, stage = task.get("state"), task.get("stage")
    if state == "UNSET":  # iExec's word for a task that has not started
        return "waiting for its turn"
    return str(state) if stage is None else f"{state}: {stage}"


class _EndedTask(msgspec.Struct):
    """The members of an ended task that its receipt is about."""

    salt: str
    receipt: dict[str, Any]
    output: dict[str, Any]


async def _wait_for_end(client: Client, url: str, job: str) -> JsonObject:
    """Poll a task until it has ended, and print each of its stages."""
    task = await client.runners.task(url, job)
    last_stage: Json = ""
    while task.get("status") == "pending":
        stage = task.get("stage")
        if stage != last_stage:
            tell(_state_words(task))
            last_stage = stage
        await asyncio.sleep(_POLL_S)
        task = await client.runners.task(url, job)
    return task


async def _download_result(
    client: Client,
    url: str,
    job: str,
    *,
    verifier: BackendVerifier,
    key_file: Path | None,
    folder: Path | None,
    request: bytes | None = None,
) -> JsonObject:
    """Wait for the end of a task, and download, verify and decrypt its result (TK11).

    Args:
        client: client of the requester or the beneficiary.
        url: address of the runner.
        job: id of the task.
        verifier: verifies the runner's code.
        key_file: file with the private key that decrypts the result; None: the result stays
            encrypted.
        folder: folder for the result; None: a folder with the id of the task.
        request: body of the request that made the task, if this command made it.
    """
    task = await _wait_for_end(client, url, job)
    cause = task.get("cause")
    if cause is not None:
        raise RunFailed(
            f"the task failed: {error_text(cause)}", hint=f"sealspace task show {url} {job}"
        )
    ended = shaped(task, _EndedTask)
    sealed = await client.runners.task_result(url, job)
    start = await start_of(url)
    document = canonical_bytes(ended.output)
    proven = await verify_run(canonical_bytes(ended.receipt), start, verifier.inspector)
    verifier.require(startup_evidence(proven))
    # The caller of a run chooses its input and output, so a run could have the hashes of a task.
    # Only the receipt of a task has the member `task` (TK9).
    is_of_task = proven.stated["job"] == job and "task" in proven.stated
    # The receipt of a failed task is about its standard output, which could be any document.
    is_of_task = is_of_task and proven.stated["status"] == "completed"
    is_of_result = ended.output.get("sha256") == sha256(sealed).hexdigest()
    salt = decode_url(ended.salt) or b""
    is_about = proven.is_about(salt=salt, input=request, output=document)
    if not (is_of_task and is_of_result and is_about):
        raise StatementInvalid("the receipt is about another task, request or result")
    folder = folder or Path(job)
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / "result.zip"
    receipt = {
        "receipt": ended.receipt,
        "salt": ended.salt,
        "start": parse_json(start, max_bytes=MAX_PUBLISHED_BYTES),
    }
    replace_file(folder / "receipt.json", json.dumps(receipt).encode())
    replace_file(folder / "output.json", document)
    if request is not None:
        replace_file(folder / "request.json", request)
    replace_file(result, sealed)
    tell(f"the receipt proves the result of {proven.stated['project']}: {result}")
    if key_file is not None:
        key = read_named(key_file, most_bytes=_MAX_KEY_BYTES)
        await asyncio.to_thread(decrypt_result, result, key, folder / "iexec_out")
        tell(f"decrypted the result: {folder / 'iexec_out'}")
    return task | {"resultPath": str(result)}
