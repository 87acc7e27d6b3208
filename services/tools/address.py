"""Where on the network a tool may go. Pure.

Input: hosts as a URL spells them, addresses as DNS answers them, and what the configuration allows beside the public
internet. Output: one canonical host, and yes or no for an address. Public is what is listed neither below nor by IANA
as special. An IPv6 address that carries an IPv4 one (mapped, NAT64, 6to4, Teredo) is never public: it may lead
anywhere. Must not know DNS, sockets or HTTP.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import idna

from shared.errors import BadInput

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Host = Address | str
"""An address, or a name in lower-case ASCII without a dot at its end."""

_SPECIAL_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network: reaches the machine itself
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared address space of providers; the metadata service of one cloud
        "127.0.0.0/8",
        "168.63.129.16/32",  # public in form, but a cloud's host agent
        "169.254.0.0/16",  # link-local: the metadata service of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
"""The only part of IPv6 that is assigned to the public internet: what lies outside needs no list."""
_SPECIAL_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NAME_CHARS = 253
_PLACE = re.compile(r"(?P<host>[^:\[\]/]+|\[[0-9a-fA-F:.]+\]):(?P<port>[0-9]{1,5})")


def is_public(address: Address) -> bool:
    """Whether the address is one of the public internet, and of nothing else."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    if address.scope_id is not None or address not in _GLOBAL_V6:
        return False
    return not any(address in network for network in _SPECIAL_V6)


def parse_host(text: str) -> Host:
    """The host of a URL as browsers and the system's resolver would understand it, so that no spelling of an address
    (``2130706433``, ``0x7f.1``, ``127.1``, ``①②⑦.0.0.1``) passes for a name. Raises BadInput(``fetch.bad_url``)."""
    if text.startswith("[") or ":" in text:
        return _ipv6(text.removeprefix("[").removesuffix("]"))
    name = _ascii(text).lower().removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(labels)
    if len(name) > _NAME_CHARS or not all(_LABEL.fullmatch(label) for label in labels):
        raise _bad("the host is not a name or an address")
    return name


@dataclass(frozen=True)
class Destinations:
    """The public internet on some ports, and what is allowed beside it."""

    hosts: frozenset[str] = frozenset()
    """These may resolve to any address."""
    networks: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset((80, 443))
    places: frozenset[tuple[Host, int]] = frozenset()
    """Hosts or addresses that are allowed on a port of their own."""

    def allows(self, host: Host, address: Address, port: int) -> bool:
        """Whether ``address``, under which ``host`` was asked for, may be connected to."""
        if (host, port) in self.places or (address, port) in self.places:
            return True
        if port not in self.ports:
            return False
        known = isinstance(host, str) and host in self.hosts
        return known or is_public(address) or any(address in network for network in self.networks)


def destinations(allowed: Iterable[str], ports: Iterable[int]) -> Destinations:
    """From the configuration: host names, addresses, CIDR networks, and ``host:port``. Raises BadInput
    (``fetch.config``)."""
    hosts: set[str] = set()
    networks: list[Network] = []
    places: set[tuple[Host, int]] = set()
    for entry in allowed:
        if (place := _PLACE.fullmatch(entry)) is not None:
            places.add((_allowed_host(entry, place["host"]), int(place["port"])))
        elif (network := _network(entry)) is not None:
            networks.append(network)
        else:
            hosts.add(str(_allowed_host(entry, entry)))
    return Destinations(frozenset(hosts), tuple(networks), frozenset(ports), frozenset(places))


def _network(entry: str) -> Network | None:
    """None for what is no network and no address. Raises BadInput for a network that is wrong."""
    try:
        return ip_network(entry)
    except ValueError as error:
        if "/" in entry:
            raise BadInput("fetch.config", f"{entry!r} is not a network: {error}") from error
        return None


def _allowed_host(entry: str, text: str) -> Host:
    try:
        host = parse_host(text)
    except BadInput as error:
        raise BadInput("fetch.config", f"{entry!r} is neither a host nor a network") from error
    if not isinstance(host, str) and text.strip("[]") != str(host):
        raise BadInput("fetch.config", f"{entry!r}: write the address as {host}")
    return host


def _ipv6(text: str) -> IPv6Address:
    try:
        address = ip_address(text)
    except ValueError as error:
        raise _bad("the host is not an IPv6 address") from error
    if not isinstance(address, IPv6Address) or address.scope_id is not None:
        raise _bad("the host is not an IPv6 address")
    return address


def _ascii(text: str) -> str:
    if text.isascii():
        return text
    try:
        return idna.encode(text, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise _bad("the host is not an internationalised name") from None


def _ipv4(labels: list[str]) -> IPv4Address:
    """Up to four numbers, each decimal, octal (``0…``) or hexadecimal (``0x…``); the last one fills what is left."""
    if len(labels) > 4:
        raise _bad("the host is not an IPv4 address")
    numbers = [_number(label) for label in labels]
    if any(number > 255 for number in numbers[:-1]) or numbers[-1] >= 256 ** (5 - len(numbers)):
        raise _bad("the host is not an IPv4 address")
    head = sum(number << 8 * (3 - place) for place, number in enumerate(numbers[:-1]))
    return IPv4Address(head + numbers[-1])


def _number(label: str) -> int:
    if not _NUMBER.fullmatch(label) or len(label) > 16:
        raise _bad("the host is not an IPv4 address")
    try:
        if label.startswith("0x"):
            return int(label[2:] or "0", 16)
        return int(label, 8) if label.startswith("0") and label != "0" else int(label)
    except ValueError:
        raise _bad("the host is not an IPv4 address") from None


def _bad(message: str) -> BadInput:
    return BadInput("fetch.bad_url", message, param="url")
