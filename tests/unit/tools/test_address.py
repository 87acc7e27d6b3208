"""Which addresses are public, and which host a URL means."""

import random
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tools.address import destinations, is_public, parse_host
from shared.errors import BadInput

PRIVATE = (
    "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16 "
    "169.254.169.254 169.254.0.1 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1 "
    "198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 "
    ":: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:8.8.8.8 64:ff9b::7f00:1 64:ff9b::808:808 "
    "64:ff9b:1::a00:1 100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:10::1 2001:20::1 2001:db8::1 "
    "2002:7f00:1:: 2002:808:808:: 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 ff0e::1 4000::1"
)
PUBLIC = (
    "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1 172.15.255.255 "
    "172.32.0.1 192.167.255.255 192.169.0.1 198.17.255.255 198.20.0.1 223.255.255.255 2606:4700:4700::1111 "
    "2a00:1450:4001:81b::200e 2400:cb00::1 2001:4860:4860::8888"
)


@pytest.mark.parametrize("text", PRIVATE.split())
def test_is_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC.split())
def test_is_public(text: str) -> None:
    assert is_public(ip_address(text))


@given(st.ip_addresses(v=4))
def test_no_ipv6_that_carries_an_ipv4_address_is_public(inner: IPv4Address) -> None:
    number = int(inner)
    carriers = (
        IPv6Address(number),
        IPv6Address((0xFFFF << 32) | number),
        IPv6Address((0x64FF9B << 96) | number),
        IPv6Address((0x2002 << 112) | (number << 80)),
        IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF)),
    )
    assert not any(is_public(carrier) for carrier in carriers)


@given(st.ip_addresses())
def test_what_is_public_is_global_for_the_standard_library_too(address: IPv4Address | IPv6Address) -> None:
    if is_public(address):
        assert address.is_global
        assert not any((address.is_multicast, address.is_private, address.is_loopback, address.is_link_local))


SPELLED = {
    "127.0.0.1": "127.0.0.1 127.1 127.0.1 2130706433 0x7f000001 0x7f.1 0177.0.0.1 017700000001 0x7F.0.0.0x1 127.0.0.1.",
    "169.254.169.254": "2852039166 0xa9fea9fe 0251.0376.0251.0376 169.16689662 169.254.43518",
    "0.0.0.0": "0 0x 0x0 00 0.0 0.0.0.0",
    "1.2.3.4": "１.２.３.４ 1。2。3。4 ①.②.③.④",
    "example.com": "example.com EXAMPLE.com example.com. ｅｘａｍｐｌｅ.com",
    "xn--bcher-kva.de": "bücher.de BÜCHER.de xn--bcher-kva.de",
    "localhost": "localhost LOCALHOST localhost.",
    "::1": "[::1] [0:0:0:0:0:0:0:1] ::1",
    "::ffff:7f00:1": "[::ffff:127.0.0.1] [::FFFF:7f00:1]",
}


@pytest.mark.parametrize(
    ("means", "spelled"), [(means, one) for means, all_ in SPELLED.items() for one in all_.split()]
)
def test_a_host_has_one_meaning(means: str, spelled: str) -> None:
    host = parse_host(spelled)
    assert host == (means if isinstance(host, str) else ip_address(means))


@given(st.ip_addresses(v=4), st.integers(0, 2**32))
def test_every_spelling_of_the_resolver_is_understood(address: IPv4Address, seed: int) -> None:
    """Whatever ``inet_aton`` would make of a spelling, we make of it."""
    spelled = _spell(address, random.Random(seed))
    assert socket.inet_aton(spelled) == address.packed
    assert parse_host(spelled) == address


def _spell(address: IPv4Address, chance: random.Random) -> str:
    parts = chance.randint(1, 4)
    head, rest = list(address.packed[: parts - 1]), int.from_bytes(address.packed[parts - 1 :], "big")
    return ".".join(chance.choice((str, hex, lambda n: f"0{n:o}"))(number) for number in [*head, rest])


NO_HOSTS = (
    *("", ".", "..", "a..b", "-a.de", "a_.de-", "a" * 64 + ".de", ".".join(["a" * 60] * 5), "256.1.1.1", "1.2.3.4.5"),
    *("1.2.3.256", "4294967296", "0x100000000", "08", "1.2.3.08", "example.1", "a%2eb", "a b", "a/b", "[fe80::1%eth0]"),
    *("::g", "1:2", "xn--zzzzzzzzä.de․", "a\0b", "0x7f.1.1.1.1", "1" * 400),
)


@pytest.mark.parametrize("text", NO_HOSTS)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_host(text)
    assert caught.value.code == "fetch.bad_url"


@given(st.text(max_size=40))
def test_any_text_is_a_host_or_refused(text: str) -> None:
    try:
        host = parse_host(text)
    except BadInput:
        return
    if isinstance(host, str):
        assert host.isascii()
        assert host == host.lower()
        with pytest.raises(OSError, match="illegal IP address"):  # no name that is left can be an address
            socket.inet_aton(host)


def test_only_what_is_configured_is_allowed_beside_the_public_internet() -> None:
    allowed = destinations(["10.1.0.0/16", "127.0.0.1", "intranet.example", "fd00::/8"], [80])
    for host, address in (
        ("a.example", "10.1.2.3"),
        ("a.example", "127.0.0.1"),
        ("intranet.example", "192.168.0.9"),
        ("a.example", "fd00::7"),
        ("a.example", "8.8.8.8"),
    ):
        assert allowed.allows(host, ip_address(address), 80)
        assert not allowed.allows(host, ip_address(address), 81)
    assert not allowed.allows("a.example", ip_address("10.2.0.1"), 80)
    assert not allowed.allows("a.example", ip_address("127.0.0.2"), 80)
    assert not allowed.allows("www.intranet.example", ip_address("192.168.0.9"), 80)
    assert not destinations([], [80]).allows("a.example", ip_address("127.0.0.1"), 80)
    assert destinations(["10.0.0.0/8"], []).networks == (ip_network("10.0.0.0/8"),)


def test_a_place_is_allowed_on_its_own_port_alone() -> None:
    allowed = destinations(["127.0.0.1:8123", "[fd00::1]:9000", "wiki.example:8080"], [80])
    assert allowed.allows(ip_address("127.0.0.1"), ip_address("127.0.0.1"), 8123)
    assert allowed.allows("localhost", ip_address("127.0.0.1"), 8123)
    assert allowed.allows("a.example", ip_address("fd00::1"), 9000)
    assert allowed.allows("wiki.example", ip_address("10.0.0.1"), 8080)
    for host, address, port in (
        ("localhost", "127.0.0.1", 80),
        ("localhost", "127.0.0.2", 8123),
        ("wiki.example", "10.0.0.1", 80),
        ("other.example", "10.0.0.1", 8080),
        ("other.example", "8.8.8.8", 8080),
    ):
        assert not allowed.allows(host, ip_address(address), port)


@pytest.mark.parametrize(
    "entry", ["10.0.0.0/33", "10.0.0.1/8", "not a host", "2130706433", "http://a.de", "a b:80", "127.1:80", "a.de:x"]
)
def test_a_bad_entry_of_the_allow_list_is_named(entry: str) -> None:
    with pytest.raises(BadInput, match=r".") as caught:
        destinations([entry], [80])
    assert caught.value.code == "fetch.config"
    assert repr(entry) in caught.value.message
