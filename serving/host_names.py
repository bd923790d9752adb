"""By which names a service without TLS is reached.

A web page of any site can make its own name resolve to this machine, and then reads what the
service answers, because to the browser it is the page's own (DNS rebinding). The browser still
states that name in `Host`.
"""

import re

from capabilities.limits import parsed_address

_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(?::\d{1,5})?")


def names_no_web_page(host: str, *, own: str) -> bool:
    """Return whether `Host` is an address, `localhost` or the service's own name.

    Args:
        host: the value of the header, untrusted.
        own: the name in the service's settings, without a port.
    """
    stated = _HOST.fullmatch(host.strip())
    if stated is None:
        return False
    name = (stated["ipv6"] or stated["name"]).lower()
    return name in ("localhost", own.lower()) or parsed_address(name) is not None
