"""Open addresses of servers: this machine's own are asked directly, whatever proxies the environment names."""

import http.client
import urllib.request
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit


FAILURES = (OSError, http.client.HTTPException, ValueError)
"""What opening and reading an address raises: nobody there, something that speaks no HTTP, no address, no JSON."""

DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def open_url(request: str | urllib.request.Request, timeout_s: float) -> Any:
    """Return the response, to be closed; errors are those of `urlopen`."""
    url = request if isinstance(request, str) else request.full_url
    opener = DIRECTLY if is_loopback(urlsplit(url).hostname or "") else urllib.request.build_opener()
    return opener.open(request, timeout=timeout_s)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified
