"""An issuer of ID tokens with keys of its own, as a CI system has.

Example:
    issuer = Issuer("https://issuer.test")
    token = issuer.token(github_claims(), audience=node_did)
    issuer.jwks   # its keys, as a JSON Web Key Set
"""

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

SHOP = {"repository_id": "74", "repository_owner_id": "65", "ref": "refs/heads/main"}
"""The claims by which a trust names the branch `main` of a repository on GitHub."""


def github_claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a job on GitHub.

    The members are those of the example token in "OpenID Connect reference",
    https://docs.github.com/en/actions/reference/security/oidc
    """
    return {
        "sub": "repo:acme/shop:ref:refs/heads/main",
        "environment": "prod",
        "ref": "refs/heads/main",
        "sha": "0123456789abcdef0123456789abcdef01234567",
        "repository": "acme/shop",
        "repository_owner": "acme",
        "actor_id": "12",
        "repository_visibility": "private",
        "repository_id": "74",
        "repository_owner_id": "65",
        "run_id": "4711",
        "run_number": "10",
        "run_attempt": "2",
        "runner_environment": "github-hosted",
        "actor": "octocat",
        "workflow": "deploy",
        "head_ref": "",
        "base_ref": "",
        "event_name": "push",
        "ref_type": "branch",
        "job_workflow_ref": "acme/shop/.github/workflows/deploy.yml@refs/heads/main",
    } | changes


def gitlab_claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a job on GitLab.

    The members are those of the example token in "OpenID Connect (OIDC) Authentication Using ID
    Tokens", https://docs.gitlab.com/ci/secrets/id_token_authentication/
    """
    return {
        "namespace_id": "72",
        "namespace_path": "acme",
        "project_id": "20",
        "project_path": "acme/shop",
        "user_id": "1",
        "user_login": "octocat",
        "pipeline_id": "574",
        "pipeline_source": "push",
        "job_id": "302",
        "ref": "main",
        "ref_type": "branch",
        "ref_path": "refs/heads/main",
        "ref_protected": "true",
        "environment": "prod",
        "environment_protected": "true",
        "deployment_tier": "production",
        "runner_id": 1,
        "runner_environment": "self-hosted",
        "sub": "project_path:acme/shop:ref_type:branch:ref:main",
    } | changes


def kubernetes_claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a pod's projected token.

    The members are those of the example in "Managing Service Accounts",
    https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/
    """
    return {
        "kubernetes.io": {
            "namespace": "shop",
            "node": {"name": "worker-1", "uid": "5e0bd49b-f040-43b0-99b7-22765a53f7f3"},
            "pod": {"name": "deploy-1", "uid": "7f5a3f17-d5fb-4a73-9b2c-c1e1c1f5c1e0"},
            "serviceaccount": {"name": "deploy", "uid": "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798"},
        },
        "sub": "system:serviceaccount:shop:deploy",
    } | changes


@dataclass
class Issuer:
    """An issuer; `keys` has its private keys by id, and the first signs."""

    address: str
    keys: dict[str, Any] = field(default_factory=lambda: {"one": rsa_key()})

    @property
    def jwks(self) -> str:
        """The public keys, as a JSON Web Key Set."""
        return json.dumps({"keys": [public_jwk(kid, key) for kid, key in self.keys.items()]})

    @property
    def documents(self) -> dict[str, bytes]:
        """The documents of the issuer: its configuration and its keys."""
        where = f"{self.address}/keys"
        configuration = {"issuer": self.address, "jwks_uri": where, "other": [1]}
        return {
            "/.well-known/openid-configuration": json.dumps(configuration).encode(),
            "/keys": self.jwks.encode(),
        }

    def token(
        self,
        claims: Mapping[str, Any],
        *,
        audience: object,
        kid: str | None = None,
        now: float | None = None,
        life_s: float = 300,
        headers: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> str:
        """Return a signed ID token; a change to None leaves the claim out."""
        at = int(time.time() if now is None else now)
        kid = kid or next(iter(self.keys))
        stated = {
            "iss": self.address,
            "aud": audience,
            "iat": at,
            "nbf": at,
            "exp": at + int(life_s),
            "jti": str(uuid.uuid4()),
            **claims,
            **changes,
        }
        key = self.keys[kid]
        return jwt.encode(
            {name: value for name, value in stated.items() if value is not None},
            key,
            algorithm=algorithm_of(key),
            headers={"kid": kid, **(headers or {})},
        )


def rsa_key() -> rsa.RSAPrivateKey:
    """Return a new RSA key."""
    return rsa.generate_private_key(65537, 2048)


def ec_key() -> ec.EllipticCurvePrivateKey:
    """Return a new key for ES256."""
    return ec.generate_private_key(ec.SECP256R1())


def algorithm_of(key: Any) -> str:
    """Return the algorithm of a key."""
    match key:
        case rsa.RSAPrivateKey():
            return "RS256"
        case ec.EllipticCurvePrivateKey():
            return "ES256"
        case ed25519.Ed25519PrivateKey():
            return "EdDSA"
    return "HS256"


def public_jwk(kid: str, key: Any) -> dict[str, Any]:
    """Return the public half of a key as a JSON Web Key; a shared secret as it is."""
    name = algorithm_of(key)
    half = key if name == "HS256" else key.public_key()
    algorithm: Any = jwt.get_algorithm_by_name(name)
    return {**algorithm.to_jwk(half, as_dict=True), "kid": kid, "use": "sig", "alg": name}
