"""Which addresses a URL of a stranger may lead to.

A host is resolved once; what was checked is what is dialled, so a name that resolves differently the second time
gains nothing. Networks are those of IANA's special-purpose registries, named here because `ipaddress` calls some of
them global or not depending on the Python release.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from shared.errors import InvalidInput, JobError

Resolver = Callable[[str, int], list[str]]

_PORTS = {"http": 80, "https": 443}
_CLOSED_V4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host agent, on a public number
        "169.254.0.0/16",  # link-local; the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # Oracle's metadata
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
]
_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
_CLOSED_V6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo and other protocols
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
]
_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class Url:
    """An http(s) URL without credentials, taken apart once; `path` includes the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def netloc(self) -> str:
        """The Host header: an IPv6 address in brackets, the scheme's own port left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.path}"

    @property
    def without_query(self) -> str:
        """The URL as it may be shown: a presigned URL's secrets are in its query."""
        return str(self).partition("?")[0]


def split_url(text: str) -> Url:
    """Take a URL apart, without I/O.

    Raises:
        InvalidInput: not http(s), no host, credentials in it, or an IPv6 zone.
    """
    scheme = text.partition(":")[0].lower()
    if scheme not in _PORTS:
        raise InvalidInput(f"{scheme[:20]!r} URLs are not read; give an http or https URL")
    try:
        url = parse_url(text)
    except LocationParseError as exc:
        raise InvalidInput("a URL cannot be read; give it as http(s)://host/path") from exc
    host = (url.host or "").strip("[]").rstrip(".").lower()
    if not host:
        raise InvalidInput("a URL names no host; give it as http(s)://host/path")
    if url.auth is not None:
        raise InvalidInput(f"the URL of {host} holds credentials; give one without user or password")
    if "%" in host:
        raise InvalidInput("a URL names an IPv6 zone; give the address without it")
    return Url(scheme, host, url.port or _PORTS[scheme], url.request_uri)


def is_public(address: str) -> bool:
    """Whether an address is global unicast; IPv4 inside IPv6 (mapped, NAT64) is judged as the IPv4 that it is."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        embedded = ip.ipv4_mapped or (IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        if embedded is None:
            return ip in _GLOBAL_UNICAST_V6 and not any(ip in network for network in _CLOSED_V6)
        ip = embedded
    return not any(ip in network for network in _CLOSED_V4)


def resolve(host: str, port: int) -> list[str]:
    """Every address of a name, as the system resolves it; other spellings of an address become the address."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def addresses_of(url: Url, resolver: Resolver, unknown: type[JobError]) -> list[str]:
    """The addresses of a URL's host, or `unknown` where it has none."""
    try:
        addresses = resolver(url.host, url.port)
    except (OSError, UnicodeError) as exc:
        raise unknown(f"host {url.host} is not known; check the URL") from exc
    if not addresses:
        raise unknown(f"host {url.host} has no address; check the URL")
    return addresses


def parse_hosts(text: str) -> frozenset[tuple[str, int]]:
    """`ALLOW_PRIVATE_HOSTS` as pairs of host and port.

    Raises:
        InvalidInput: naming the entry that is not `host:port`.
    """
    pairs = set()
    for entry in filter(None, (part.strip() for part in text.split(","))):
        host, _, port = entry.rpartition(":")
        if not host or not port.isdecimal():
            raise InvalidInput(f"ALLOW_PRIVATE_HOSTS: {entry!r} is not host:port")
        pairs.add((host.strip("[]").rstrip(".").lower(), int(port)))
    return frozenset(pairs)
