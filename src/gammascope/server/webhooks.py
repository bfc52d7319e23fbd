"""Telling another server that a job is finished; only servers that were named at the start, never inside the network.

The message says which job and how it went; the results are fetched with the key that sent the job, so that nothing
about a picture leaves by this door. The name is resolved once and that very address is called, so it cannot change
between check and call. Redirects are not followed.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from gammascope.server.logs import log
from gammascope.server.problems import Problem

SECONDS: Final = 10.0
"""For one call, from connecting to the status line."""

PAUSES_S: Final = (0.0, 2.0, 10.0)
"""Before each try."""

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
"""A gateway turns these into the IPv4 addresses that they end with (RFC 6052)."""

_PORTS: Final = {"http": 80, "https": 443}

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class UnreachableError(Exception):
    """The call was not made, or not answered with success."""


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet.

    >>> is_public(ipaddress.ip_address("10.0.0.1")), is_public(ipaddress.ip_address("9.9.9.9"))
    (False, True)
    """
    inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    if address in _NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if inner is not None:
        return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


class Webhooks:
    """Calls the addresses that jobs name.

    Args:
        hosts: Names that may be called, as ``example.org`` or ``example.org:8443``; without a port, those of http and
            https.
        reachable: Whether an address may be called.
        pauses_s: Before each try.
    """

    def __init__(
        self,
        hosts: Iterable[str] = (),
        reachable: Callable[[Address], bool] = is_public,
        pauses_s: Iterable[float] = PAUSES_S,
    ) -> None:
        self._hosts = {host.lower() for host in hosts}
        self._reachable, self._pauses_s = reachable, tuple(pauses_s)

    def check(self, url: str) -> None:
        """Refuse what will not be called.

        Raises:
            Problem: "webhook-refused".
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise Problem("webhook-refused", f"The webhook is no URL: {error}.") from error
        host = (parts.hostname or "").lower()
        if parts.scheme not in _PORTS or not host:
            raise Problem("webhook-refused", "The webhook does not start with http:// or https://.")
        if parts.username is not None or parts.password is not None:
            raise Problem("webhook-refused", "The webhook holds a user name or a password.")
        usual = port is None or port == _PORTS[parts.scheme]
        if f"{host}:{port}" not in self._hosts and not (usual and host in self._hosts):
            raise Problem(
                "webhook-refused",
                "The webhook's host is not on this server's list (gammascope serve --webhook-host).",
            )

    def call(self, url: str, message: Mapping[str, Any]) -> bool:
        """Send a message; blocks. Returns whether it was taken."""
        reason = ""
        for pause in self._pauses_s:
            time.sleep(pause)
            try:
                self._post(urlsplit(url), json.dumps(message).encode())
            except (UnreachableError, OSError, http.client.HTTPException) as error:
                reason = type(error).__name__
                continue
            return True
        log("webhook-failed", tries=len(self._pauses_s), error=reason)
        return False

    def _post(self, url: SplitResult, body: bytes) -> None:
        host, port = url.hostname or "", url.port or _PORTS[url.scheme]
        connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
        connection.sock = socket.create_connection((self._address(host, port), port), SECONDS)
        try:
            if url.scheme == "https":
                context = ssl.create_default_context()
                connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
            connection.request("POST", target, body, {"Content-Type": "application/json"})
            status = connection.getresponse().status
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise UnreachableError(f"status {status}")

    def _address(self, host: str, port: int) -> str:
        """Resolve a name; any address of it inside the network spoils them all."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(row[4][0]).partition("%")[0]) for row in found]
        if not addresses or not all(self._reachable(address) for address in addresses):
            raise UnreachableError("not a public address")
        return str(addresses[0])
