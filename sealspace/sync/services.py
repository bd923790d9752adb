"""The services of a client, synchronous; each method is that of the service of the same name in `sealspace`."""

from capabilities.resources import SpaceId
from capabilities.tokens import Capability

from .. import delegations, encryption, kv, public, receipts, secrets, spaces
from .. import encryption as withdrawals
from ..apps import attestation, backends, programs, runners
from ._bridged import Bridged, called, called_alone, changed, iterated, iterated_by_pages, passed, reported

look_at = called_alone(backends.look_at)
hand_over = called_alone(backends.hand_over)


class Kv(Bridged[kv.Kv]):
    """The values of one space; made by `Client.kv`. As `sealspace.kv.Kv`."""

    @property
    def space(self) -> SpaceId:
        """The space."""
        return self._inner.space

    get = called(kv.Kv.get)
    get_if_changed = called(kv.Kv.get_if_changed)
    metadata = called(kv.Kv.metadata)
    size_bytes = called(kv.Kv.size_bytes)
    put = called(kv.Kv.put)
    get_many = called(kv.Kv.get_many)
    put_many = called(kv.Kv.put_many)
    delete_many = called(kv.Kv.delete_many)
    stream = iterated(kv.Kv.stream)
    download = reported(kv.Kv.download)
    upload = reported(kv.Kv.upload)
    delete = called(kv.Kv.delete)
    signed_url = called(kv.Kv.signed_url)
    list_page = called(kv.Kv.list_page)
    list = iterated_by_pages(kv.Kv.list, kv.Kv.pages, lambda page: page.keys)
    pages = iterated(kv.Kv.pages)


class PublicKv(Bridged[public.PublicKv]):
    """The values of one public space; made by `Client.public`. As `sealspace.public.PublicKv`."""

    @property
    def space(self) -> SpaceId:
        """The space."""
        return self._inner.space

    get = called(public.PublicKv.get)
    get_if_changed = called(public.PublicKv.get_if_changed)
    list = iterated(public.PublicKv.list)


class Secrets(Bridged[secrets.Secrets]):
    """The secrets of one owner; made by `Client.secrets`. As `sealspace.secrets.Secrets`."""

    resource = passed(secrets.Secrets.resource)
    put = called(secrets.Secrets.put)
    put_generated = called(secrets.Secrets.put_generated)
    put_many = called(secrets.Secrets.put_many)
    get = called(secrets.Secrets.get)
    get_text = called(secrets.Secrets.get_text)
    get_many = called(secrets.Secrets.get_many)
    read = called(secrets.Secrets.read)
    version = called(secrets.Secrets.version)
    envelope = called(secrets.Secrets.envelope)
    delete = called(secrets.Secrets.delete)
    list = called(secrets.Secrets.list)
    scopes = called(secrets.Secrets.scopes)


class Spaces(Bridged[spaces.Spaces]):
    """The spaces of the owner of one space; made by `Client.spaces`. As `sealspace.spaces.Spaces`."""

    @property
    def rights(self) -> tuple[Capability, ...]:
        """What a session has to hold for everything here; see `Delegations.add_right`."""
        return self._inner.rights

    list = called(spaces.Spaces.list)
    create = called(spaces.Spaces.create)
    info = called(spaces.Spaces.info)


class Encryption(Bridged[encryption.Encryption]):
    """The encryption networks of a node; made by `Client.encryption`. As `sealspace.encryption.Encryption`."""

    network = passed(encryption.Encryption.network)
    descriptor = called(encryption.Encryption.descriptor)
    accept = changed(encryption.Encryption.accept)
    ensure_network = called(encryption.Encryption.ensure_network)
    revoke_network = called(encryption.Encryption.revoke_network)
    policy = called(encryption.Encryption.policy)
    set_policy = called(encryption.Encryption.set_policy)
    encrypt = called(encryption.Encryption.encrypt)
    decrypt = called(encryption.Encryption.decrypt)


class Delegations(Bridged[delegations.Delegations]):
    """Grants by and to the session; made by `Client.delegations`. As `sealspace.delegations.Delegations`."""

    delegate = called(delegations.Delegations.delegate)
    delegate_to_target = called(delegations.Delegations.delegate_to_target)
    take_up = called(delegations.Delegations.take_up)
    take_up_bundle = called(delegations.Delegations.take_up_bundle)
    read = passed(delegations.Delegations.read)
    add_right = called(delegations.Delegations.add_right)
    revoke = called(delegations.Delegations.revoke)
    revoke_by_wallet = called(delegations.Delegations.revoke_by_wallet)
    status = called(delegations.Delegations.status)
    query = iterated(delegations.Delegations.query)
    holders = called(delegations.Delegations.holders)


class Attestation(Bridged[attestation.Attestation]):
    """The attestation routes of a node; made by `Client.attestation`. As `sealspace.apps.attestation.Attestation`."""

    challenge = called(attestation.Attestation.challenge)
    open_session = called(attestation.Attestation.open_session)


class Backends(Bridged[backends.Backends]):
    """Granting to backends by what was seen; made by `Client.backends`. As `sealspace.apps.backends.Backends`."""

    look = called(backends.Backends.look)
    require_judgeable = called(backends.Backends.require_judgeable)
    resources = passed(backends.Backends.resources)
    grant = called(backends.Backends.grant)


class Programs(Bridged[programs.Programs]):
    """The projects of one developer; made by `Client.programs`. As `sealspace.apps.programs.Programs`."""

    @property
    def space(self) -> str:
        """Full id of the space that holds them; what a grant to a runner names."""
        return self._inner.space

    publish = called(programs.Programs.publish)
    activate = called(programs.Programs.activate)
    names = iterated(programs.Programs.names)
    versions = called(programs.Programs.versions)
    version = called(programs.Programs.version)
    active = called(programs.Programs.active)


class Runners(Bridged[runners.Runners]):
    """Granting to runners; made by `Client.runners`. As `sealspace.apps.runners.Runners`."""

    grant = called(runners.Runners.grant)
    generate = called(runners.Runners.generate)
    share_project = called(runners.Runners.share_project)
    create_key = called(runners.Runners.create_key)
    keys = called(runners.Runners.keys)
    revoke_key = called(runners.Runners.revoke_key)


class Receipts(Bridged[receipts.Receipts]):
    """The receipts of a node; made by `Client.receipts`. As `sealspace.receipts.Receipts`."""

    page = called(receipts.Receipts.page)
    all = iterated(receipts.Receipts.all)
    document = called(receipts.Receipts.document)
    documents = called(receipts.Receipts.documents)


class Withdrawals(Bridged[withdrawals.Withdrawals]):
    """Withdrawals by the owner; made by `Client.withdrawals`. As `sealspace.encryption.Withdrawals`."""

    withdraw_measurement = called(withdrawals.Withdrawals.withdraw_measurement)
    withdraw_backend = called(withdrawals.Withdrawals.withdraw_backend)
    withdraw_evidence = called(withdrawals.Withdrawals.withdraw_evidence)
