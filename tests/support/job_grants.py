"""Run grants that a job makes, without the command that verifies a bundle and revokes earlier
grants.

Example:
    portable = granted_by_job(read_token(token), version.sha256, commit)
    await stage.runner.accept(portable)
"""

from capabilities.clock_and_entropy import SystemEntropy
from sealspace.documents.run_grants import JOB_FACT, read_run_grant
from sealspace.session import Session, mint, read_grant
from sealspace.wire.portable import PortableDelegation, portable_of


def granted_by_job(session: Session, sha256: str, commit: str) -> PortableDelegation:
    """Return a grant to a build that is signed by the session of a job."""
    offer = session.grants[0]
    job = read_run_grant(offer.header, runner=None)
    header = mint(
        session.signer,
        SystemEntropy(),
        audience=str(job.statement.refresh_for),
        capabilities=offer.capabilities,
        proofs=[offer.cid],
        expires_at=job.expires_at,
        facts=[{JOB_FACT: offer.header, "wasmSha256": sha256, "commit": commit}],
        issuer=session.did,
    )
    return portable_of(read_grant(header), owner=job.owner, host="")
