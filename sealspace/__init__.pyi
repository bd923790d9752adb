# Generated from the asynchronous classes by tools/sync_stubs.py; write it anew with `make pages`.
from sealspace.apps.attestation import Attestation as Attestation
from sealspace.apps.backends import Backends as Backends
from sealspace.apps.contacts import Contacts as Contacts
from sealspace.apps.key_rotation import KeyRotation as KeyRotation
from sealspace.apps.programs import Programs as Programs
from sealspace.apps.replica import Replica as Replica
from sealspace.apps.runners import Runners as Runners
from sealspace.client import Client as Client
from sealspace.client import NodeInfo as NodeInfo
from sealspace.client import SignIn as SignIn
from sealspace.client import TransportSettings as TransportSettings
from sealspace.delegations import Delegations as Delegations
from sealspace.delegations import allow as allow
from sealspace.encryption import Encryption as Encryption
from sealspace.encryption import Withdrawals as Withdrawals
from sealspace.errors import DecryptDenied as DecryptDenied
from sealspace.errors import InvalidInput as InvalidInput
from sealspace.errors import NodeRefused as NodeRefused
from sealspace.errors import NotFound as NotFound
from sealspace.errors import NotGranted as NotGranted
from sealspace.errors import NotSignedIn as NotSignedIn
from sealspace.errors import PreconditionFailed as PreconditionFailed
from sealspace.errors import SealspaceError as SealspaceError
from sealspace.errors import SessionExpired as SessionExpired
from sealspace.errors import TransportError as TransportError
from sealspace.errors import Unauthorized as Unauthorized
from sealspace.giving.access import Access as Access
from sealspace.giving.copies import Sharing as Sharing
from sealspace.giving.teams.team_moves import TeamMoves as TeamMoves
from sealspace.giving.teams.teams import Teams as Teams
from sealspace.kv import Kv as Kv
from sealspace.kv import Value as Value
from sealspace.receipts import Receipts as Receipts
from sealspace.secrets import Secret as Secret
from sealspace.secrets import Secrets as Secrets
from sealspace.session import Session as Session
from sealspace.session import load_session as load_session
from sealspace.session import save_session as save_session
from sealspace.spaces import PublicKv as PublicKv
from sealspace.spaces import Spaces as Spaces
from sealspace.sql import Sql as Sql
from sealspace.wallets import Wallet as Wallet
from sealspace.wallets import new_wallet as new_wallet
from sealspace.wallets import wallet_from_key as wallet_from_key
from sealspace.wallets import wallet_from_keystore as wallet_from_keystore
from sealspace.wire.portable import PortableDelegation as PortableDelegation
from sealspace.wire.portable import decode_portable as decode_portable
from sealspace.wire.portable import encode_portable as encode_portable

__version__: str
__all__ = [
    "Access",
    "Attestation",
    "Backends",
    "Client",
    "Contacts",
    "DecryptDenied",
    "Delegations",
    "Encryption",
    "InvalidInput",
    "KeyRotation",
    "Kv",
    "NodeInfo",
    "NodeRefused",
    "NotFound",
    "NotGranted",
    "NotSignedIn",
    "PortableDelegation",
    "PreconditionFailed",
    "Programs",
    "PublicKv",
    "Receipts",
    "Replica",
    "Runners",
    "SealspaceError",
    "Secret",
    "Secrets",
    "Session",
    "SessionExpired",
    "Sharing",
    "SignIn",
    "Spaces",
    "Sql",
    "TeamMoves",
    "Teams",
    "TransportError",
    "TransportSettings",
    "Unauthorized",
    "Value",
    "Wallet",
    "Withdrawals",
    "__version__",
    "allow",
    "decode_portable",
    "encode_portable",
    "load_session",
    "new_wallet",
    "save_session",
    "wallet_from_key",
    "wallet_from_keystore",
]
