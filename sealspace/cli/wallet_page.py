"""The owner's wallet in a browser: a command shows a page on this machine, and the wallet signs there.

The page is opened when something is first to be signed, and closed when the command ends.

Example:
    wallet = wallet_page(node, opens=True).connect(before=None)
    wallet.sign_eip191(text)  # waits for the person
"""

import os
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self, TypeVar

import click

from capabilities.errors import BadSignature, CapabilityError
from capabilities.principals import Principal, eip55, parse_address, parse_principal, wallet_address
from capabilities.signatures import recover_eip191
from capabilities.strict_json import Json

from ..errors import SealspaceError
from ..printable import printable_line
from .errors import NodeError, NotSigned
from .loopback_peers import TABLES
from .next_steps import next_step
from .signing_words import signing_words
from .terminal import print_lines
from .wallet_desk import LIMIT_S, AnswerRefused, WalletDesk
from .wallet_server import WalletServer
from .what_happened import what_happened

_META: Final = "sealspace.wallet-page"

T = TypeVar("T")


class BrowserWallet:
    """A wallet that is asked in a page.

    Attributes:
        address: 20 bytes.
        chain_id: in the DID.
        did: `did:pkh:eip155:<chain>:<EIP-55 address>`.
    """

    def __init__(self, did: Principal, page: "WalletPage") -> None:
        self.address = wallet_address(did) or b""
        self.chain_id = int(did.split(":")[3])
        self.did = did
        self._page = page

    @property
    def domain(self) -> str:
        """Address and port of the page: a wallet compares them with what a text names."""
        return self._page.served().authority

    def sign_eip191(self, text: str) -> bytes:
        """Show a text in the page, and return the wallet's signature over it; waits for the person.

        Raises:
            NotSigned: nobody signed in time, or it was cancelled.
        """

        def accept(said: Mapping[str, Json]) -> bytes:
            signature = _signature(said.get("signature"))
            try:
                signer = recover_eip191(text.encode(), signature)
            except BadSignature:
                signer = b""
            if signer != self.address:
                raise AnswerRefused(
                    "other-signer",
                    f"that is no signature of {eip55(self.address)} over this text",
                    hint="choose that account in the wallet; an account that is a contract cannot sign here",
                )
            return signature

        shown: dict[str, Json] = {"owner": self.did, "address": eip55(self.address), "chainId": self.chain_id}
        return self._page.ask({"kind": "sign", **shown, "text": text, **signing_words(text)}, accept)

    def __repr__(self) -> str:
        return f"BrowserWallet({self.did})"


class WalletPage:
    """The page of one command.

    Args:
        command: as the person typed it, for the page.
        node: at which it acts, for the page.
        opens: open the page in a browser where there is a display.
    """

    def __init__(self, command: str, node: str, *, opens: bool) -> None:
        self._shown: dict[str, Json] = {"command": command, "node": node}
        self._opens = opens
        self._stack = ExitStack()
        self._server: WalletServer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._server is not None:
            self._server.desk.end(_last_view(error))
        self._stack.close()

    def served(self) -> WalletServer:
        """Return the server of the page; at first it is started, and a person told of it.

        Raises:
            NotSigned: it could answer nobody.
        """
        if self._server is None:
            if sys.platform == "linux" and not TABLES[0].exists():  # LP1: nobody would be answered
                raise NotSigned(
                    "this system does not say who connects to a page", hint="sealspace login --key-file FILE"
                )
            self._server = self._stack.enter_context(WalletServer(WalletDesk()))
            print_lines(  # not mere words: without it nobody could go on
                f"open this in the browser with your wallet, within {LIMIT_S / 60:g} minutes:",
                f"  {self._server.url}",
                err=True,
            )
            if self._opens and _has_display():
                # In a thread: the program that BROWSER names may be waited for until it ends.
                threading.Thread(target=webbrowser.open, args=(self._server.url,), daemon=True).start()
        return self._server

    def ask(self, view: Mapping[str, Json], accept: Callable[[Mapping[str, Json]], T]) -> T:
        """Ask the person; as `WalletDesk.ask`."""
        return self.served().desk.ask({**self._shown, **view}, accept)

    def connect(self, *, before: str | None) -> BrowserWallet:
        """Ask a wallet for its account.

        Args:
            before: owner of the last login.
        Raises:
            NotSigned: no account was given in time, or it was cancelled.
        """
        return BrowserWallet(self.ask({"kind": "connect", "before": before}, _account), self)


def wallet_page(node: str, *, opens: bool) -> WalletPage:
    """Return the page of the running command, which closes with it.

    Args:
        node: at which the command acts; counts the first time.
        opens: open it in a browser where there is a display; counts the first time.
    """
    context = click.get_current_context()
    if _META not in context.meta:
        context.meta[_META] = context.with_resource(WalletPage(context.command_path, node, opens=opens))
    page: WalletPage = context.meta[_META]
    return page


def _has_display() -> bool:
    # Without one, `webbrowser` would start a browser in the terminal of the command.
    return sys.platform != "linux" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _account(said: Mapping[str, Json]) -> Principal:
    """Read the account that a page names, untrusted: what is granted to it is worth nothing without its signature."""
    address, chain = said.get("address"), said.get("chainId")
    try:
        if not isinstance(chain, int) or chain < 1:
            raise ValueError
        return parse_principal(f"did:pkh:eip155:{chain}:{eip55(parse_address(str(address)))}")
    except (CapabilityError, ValueError):
        raise AnswerRefused(
            "no-account", "the wallet gave no account of Ethereum", hint="choose an account in the wallet"
        ) from None


def _signature(value: Json) -> bytes:
    try:
        return bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else b""
    except ValueError:
        return b""


def _last_view(error: BaseException | None) -> dict[str, Json]:
    match error:
        case None:
            return {"kind": "done"}
        case NodeError():
            return {"kind": "failed", "text": error.text, "hint": error.hint}
        case SealspaceError():
            # Texts of a node: with a change of direction in one, the page would say something else than the terminal.
            return {
                "kind": "failed",
                "text": printable_line(what_happened(error)),
                "hint": printable_line(next_step(error)),
            }
    return {"kind": "failed", "text": "the command was ended", "hint": "start it again"}
