"""Media from elsewhere, fetched only from public addresses: from the very one that was looked at."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from io import BufferedRandom

import httpx2
from httpx2 import URL

from ppl.serving.http.errors import ApiError

_MAX_REDIRECTS = 3
_SECONDS = 30.0
_TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
"""Addresses that lead to IPv4's (RFC 6052, RFC 8215)."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Gives the addresses of a host."""


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system for the addresses of a host.

    Raises:
        OSError: It has none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def is_public(address: str) -> bool:
    """Whether an address is one of the internet at large, and not a way to reach another one."""
    if "%" in address:  # of one interface
        return False
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if inside or ip.is_reserved or any(ip in network for network in _TRANSLATED):
            return False
    return ip.is_global and not ip.is_multicast


class Fetcher:
    """Fetches files.

    Args:
        max_bytes: Of one.
        resolve: Gives addresses.
        allowed: Which of them may be spoken to.
        seconds: For one file, redirects included.
    """

    def __init__(
        self,
        max_bytes: int,
        resolve: Resolve = resolve,
        allowed: Callable[[str], bool] = is_public,
        seconds: float = _SECONDS,
    ) -> None:
        self.max_bytes = max_bytes
        self.resolve = resolve
        self.allowed = allowed
        self.seconds = seconds

    async def fetch(self, url: str, into: BufferedRandom, name: str) -> None:
        """Write what is at a URL into a file.

        Args:
            url: Of http or https.
            into: The file.
            name: What the client calls it.

        Raises:
            ApiError: The address is not public, or the file does not come, in size or time.
        """
        # no settings from the environment: a proxy would speak to addresses that were not looked at
        try:
            async with asyncio.timeout(self.seconds), httpx2.AsyncClient(trust_env=False, timeout=10.0) as client:
                place = URL(url)
                for _ in range(_MAX_REDIRECTS + 1):
                    further = await self._get(client, place, into, name)
                    if further is None:
                        return
                    place = place.join(further)
        except TimeoutError as error:
            raise ApiError(400, f"got no whole file within {self.seconds:g} s; upload it instead", name) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            raise ApiError(400, "got a URL that could not be fetched; correct it, or upload the file", name) from error
        raise ApiError(400, f"got over {_MAX_REDIRECTS} redirects; give the URL that they lead to", name)

    async def _get(self, client: httpx2.AsyncClient, url: URL, into: BufferedRandom, name: str) -> str | None:
        """Fetch one URL; a redirect's target comes back."""
        if url.scheme not in ("http", "https") or not url.host:
            raise ApiError(400, "got a URL that is neither http nor https; give one that is", name)
        address = await self._address(url, name)
        headers = {"Host": url.netloc.decode("ascii"), "Accept-Encoding": "identity"}
        extensions = {"sni_hostname": url.raw_host.decode("ascii")}
        there = url.copy_with(host=address, userinfo=b"")
        async with client.stream("GET", there, headers=headers, extensions=extensions) as response:
            if response.has_redirect_location:
                return response.headers["location"]
            if response.status_code != 200:
                raise ApiError(400, f"got status {response.status_code} from that URL, expected 200; correct it", name)
            async for block in response.aiter_raw():
                into.write(block)
                if into.tell() > self.max_bytes:
                    msg = f"got a file of over {self.max_bytes} bytes, expected at most so many; send a smaller one"
                    raise ApiError(413, msg, name)
        return None

    async def _address(self, url: URL, name: str) -> str:
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = await self.resolve(url.host, port)
        if not addresses or not all(map(self.allowed, addresses)):
            msg = "got a URL whose host is not a public one, expected one of the internet; upload the file instead"
            raise ApiError(400, msg, name)
        return addresses[0]
