"""Choose the proxy of an address, by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in either case.

Invariant: this machine's own servers are asked directly, unless NO_PROXY is set and empty.
"""

import os
from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass


USABLE = ("http://", "https://")


def proxy_for(url: str) -> str | None:
    """Return the proxy through which an address is asked; None for none."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies = getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(f"{host}:{parts.port}" if parts.port else host):
        return None
    if is_loopback(host) and os.environ.get("no_proxy", os.environ.get("NO_PROXY")) != "":
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    return proxy if proxy.startswith(USABLE) else None


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified
