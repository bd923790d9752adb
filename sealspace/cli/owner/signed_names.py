"""The names that an owner signed for approved code, in the output of commands (CN19).

Example:
    names = own_app_names(records, client.session.owner)
    print_result(app_names_members(names.get(cid)), called_lines(names.get(cid)))
"""

from collections.abc import Iterable, Sequence

from capabilities.capability_errors import CapabilityError
from capabilities.cids import cid_text
from capabilities.principals import principal_of, same_principal
from capabilities.strict_json import JsonObject
from capabilities.tokens import parse_delegation, verify_delegation

from ...documents.app_names import AppNames, quoted_name, read_app_names
from ...printable import printable
from ...wire.delegation_history import DelegationRecord, sign_ins


def own_app_names(records: Sequence[DelegationRecord], owner: str) -> dict[str, AppNames]:
    """Return by CID the names that an owner signed for approved code.

    A recipient who passes a grant on could state any name, so only the signature of the owner or of
    a sign-in of the owner counts. It is verified, because the node chose which token to send.

    Args:
        records: the owner's grants with their tokens, and the sign-ins.
        owner: DID.
    """
    session_cids = sign_ins(records, owner)
    signers = {principal_of(owner)}
    for record in records:
        if record.cid in session_cids:
            signers.add(principal_of(record.delegate))
    names_by_cid = {}
    for record in records:
        app = None if record.token is None else read_app_names(record.token)
        if app is not None and _is_signed_by(record, signers):
            names_by_cid[record.cid] = app
    return names_by_cid


def _is_signed_by(record: DelegationRecord, signers: Iterable[str]) -> bool:
    """Return whether a record has its own token, signed by one of some principals."""
    try:
        delegation = verify_delegation(parse_delegation(record.token or ""))
    except CapabilityError:
        return False
    is_of_record = cid_text(delegation.cid) == record.cid
    return is_of_record and any(same_principal(delegation.delegator, signer) for signer in signers)


def app_names_members(app: AppNames | None) -> JsonObject:
    """Return the names of a grant's code as members of JSON output; None where none is stated."""
    if app is None:
        return {"appName": None, "code": None}
    return {"appName": app.name or None, "code": app.code}


def called_lines(app: AppNames | None) -> list[str]:
    """Describe the names that a grant states for its code, as `backend show` does for files."""
    if app is None:
        return []
    lines = [quoted_name(app.name)] if app.name else []
    code = {} if app.code is None else app.code
    images = code.get("images")
    for image in images if isinstance(images, list) else []:
        if isinstance(image, dict):
            lines.append(printable(f"image {image['service']}: {image['reference']}"))
    if code.get("osImageHash"):
        lines.append(f"os image {code['osImageHash']}")
    return lines
