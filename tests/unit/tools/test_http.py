"""GET within bounds, to judged addresses only: what is read, what is refused, and what never gets a connection."""

import asyncio
import contextlib
import gzip
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from services.tools.address import Address, Destinations, destinations
from services.tools.http import Web, WebLimits, system_resolve
from services.tools.url import parse_url
from shared.errors import BadInput, DeadlineExceeded, MoontideError, Unavailable
from tests.web.site import Site, drip, redirect, response, site

MIB = 1024 * 1024


def web(*sites: Site, names: dict[str, str] | None = None, **limits: float) -> Web:
    """Loopback is allowed. ``names``: what DNS knows."""

    async def resolve(name: str) -> Sequence[Address]:
        known = (names or {}).get(name)
        return [ip_address(known)] if known else []

    ports = [site.port for site in sites]
    return Web(destinations(["127.0.0.0/8"], ports), WebLimits(**limits), resolve)  # type: ignore[arg-type]


def self_signed(folder: Path, name: str) -> ssl.SSLContext:
    """What a server of that name speaks, whose certificate nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(datetime.now(UTC) - timedelta(1)).not_valid_after(
        datetime.now(UTC) + timedelta(1)
    )
    certificate = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
    pem = certificate.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "site.pem").write_bytes(private + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "site.pem")
    return context


async def refused(web: Web, url: str, kind: type[MoontideError], code: str) -> MoontideError:
    with pytest.raises(kind) as caught:
        await web.get(url)
    assert caught.value.code == code
    return caught.value


async def test_a_page_is_read_with_what_the_server_says_of_it() -> None:
    async with site(a=response("grüß".encode("latin-1"), "Text/HTML; charset=latin-1")) as s:
        answer = await web(s).get(s.url("/a#part"))
    assert (answer.status, answer.media_type, answer.charset) == (200, "text/html", "latin-1")
    assert answer.body.decode("latin-1") == "grüß"
    assert not answer.truncated
    assert answer.url == s.url("/a")


async def test_nothing_of_ours_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cookie that was set, no referrer, no credentials; and the environment's proxy gets no say."""
    async with site(a=b"") as s:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("NETRC", "/dev/null")
        s.routes["/a"] = response(b"", status="302 Found", Location="/b", Set_Cookie="id=1; Path=/")
        s.routes["/b"] = response(b"here")
        answer = await web(s).get(s.url("/a"))
    assert answer.body == b"here"
    for head in s.asked:
        lines = {line.partition(":")[0].lower() for line in head.split("\r\n")[1:] if line}
        assert lines == {"host", "accept", "accept-encoding", "accept-language", "user-agent", "connection"}


async def test_a_name_is_resolved_by_us_and_told_to_the_server() -> None:
    async with site(a=response(b"named")) as s:
        answer = await web(s, names={"shop.example": "127.0.0.1"}).get(s.url("/a", "SHOP.example."))
    assert answer.body == b"named"
    assert f"Host: shop.example:{s.port}" in s.asked[0]


async def test_the_next_address_is_tried_where_one_is_dead() -> None:
    async with site(a=response(b"alive")) as s:

        async def resolve(name: str) -> Sequence[Address]:
            return [ip_address("127.0.0.77"), ip_address("127.0.0.1")]

        both = Web(destinations(["127.0.0.0/8"], [s.port]), WebLimits(), resolve)
        assert (await both.get(s.url("/a", "shop.example"))).body == b"alive"


async def test_redirects_are_followed_and_counted() -> None:
    async with site(end=response(b"arrived")) as s:
        for number in range(7):
            s.routes[f"/{number}"] = redirect(f"/{number - 1}" if number else "end")
        assert (await web(s).get(s.url("/4"))).url == s.url("/end")
        await refused(web(s), s.url("/6"), BadInput, "fetch.redirects")
        assert len(s.asked) == 6 + 6


async def test_headers_for_one_host_do_not_go_to_another() -> None:
    async with site(a=b"") as s, site(b=response(b"other")) as other:
        s.routes["/a"] = redirect(other.url("/b"))
        await web(s, other).get(s.url("/a"), headers={"X-Key": "secret"})
    assert "X-Key: secret" in s.asked[0]
    assert "secret" not in other.asked[0]


async def test_a_long_body_is_cut_at_the_limit() -> None:
    async with site(a=response(b"x" * 5000), b=drip(b"HTTP/1.1 200 OK\r\n\r\n", b"y" * 65536)) as s:
        cut = await web(s, max_bytes=1000).get(s.url("/a"))
        endless = await web(s, max_bytes=MIB).get(s.url("/b"))
        whole = await web(s, max_bytes=5000).get(s.url("/a"))
    assert (len(cut.body), cut.truncated) == (1000, True)
    assert (len(endless.body), endless.truncated) == (MIB, True)
    assert (len(whole.body), whole.truncated) == (5000, False)


async def test_compressed_bodies_are_unpacked_within_the_limit() -> None:
    many = gzip.compress(b"one ") + gzip.compress(b"two")
    bomb = gzip.compress(b"0" * 200 * MIB, 9)
    async with site(a=response(many, Content_Encoding="gzip"), b=response(bomb, Content_Encoding="gzip")) as s:
        s.routes["/c"] = response(b"\x1f\x8bdamaged and more", Content_Encoding="gzip")
        s.routes["/d"] = response(b"?", Content_Encoding="br")
        assert (await web(s).get(s.url("/a"))).body == b"one two"
        unpacked = await web(s, max_bytes=MIB).get(s.url("/b"))
        assert (len(unpacked.body), unpacked.truncated) == (MIB, True)
        await refused(web(s), s.url("/c"), BadInput, "fetch.unreadable")
        await refused(web(s), s.url("/d"), BadInput, "fetch.unreadable")


@pytest.mark.parametrize(
    "script",
    [
        drip(b"HTTP/1.1 200 OK\r\nX-A: b", b"b", 0.05),
        drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", 0.3),
        drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x", 0.05),
        drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x", 60),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"x", 60, 1),
    ],
)
async def test_a_server_that_drips_is_left(script: bytes) -> None:
    async with site(a=script) as s:
        await refused(web(s, total_seconds=1.0, idle_seconds=0.7), s.url("/a"), DeadlineExceeded, "fetch.timeout")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 999,
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * MIB + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_a_broken_answer_is_told_in_our_words(answer: bytes) -> None:
    async with site(a=answer) as s:
        error = await refused(web(s), s.url("/a"), Unavailable, "fetch.unreachable")
    assert not error.retryable  # a broken site is the model's to deal with, not the queue's
    assert error.message.startswith("127.0.0.1 cannot be read: ")


async def test_nobody_there_is_told_in_our_words() -> None:
    async with site() as s:
        pass
    await refused(web(s), s.url("/"), Unavailable, "fetch.unreachable")
    await refused(web(s, names={}), s.url("/", "nowhere.example"), BadInput, "fetch.unknown_host")


async def test_a_certificate_is_checked(tmp_path: Path) -> None:
    async with site(a=response(b"x"), tls=self_signed(tmp_path, "shop.example")) as s:
        named = web(s, names={"shop.example": "127.0.0.1"})
        error = await refused(named, f"https://shop.example:{s.port}/a", Unavailable, "fetch.unreachable")
    assert error.message.endswith("its certificate is not valid")
    assert s.asked == []


async def test_the_check_of_an_answer_comes_before_its_body() -> None:
    def check(answer: object) -> None:
        raise BadInput("test.no", "no")

    async with site(a=drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x", 60)) as s:
        with pytest.raises(BadInput, match="no"):
            await web(s, total_seconds=20).get(s.url("/a"), check=check)


async def test_only_allowed_ports_are_connected_to() -> None:
    async with site(a=response(b"x")) as s, site() as other:
        await refused(web(other), s.url("/a"), BadInput, "fetch.forbidden")
    assert s.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "//a.de/",
        "ftp://a.de/",
        "file:///etc/passwd",
        "javascript:1",
        "http://",
        "http:///x",
        "http://a.de:99999/",
        "http://u@a.de/",
        "http://u:p@a.de/",
        "http://:@a.de/",
        "http://a.de\\@127.0.0.1/",
        "http://a .de/",
        "http://a.de/\n",
        "http://[fe80::1%25eth0]/",
        "http://a%2ede/",
        "http://" + "a" * 5000,
        "http://a.de:x/",
        "http://-/",
        "data:text/html,x",
        "http://256.1.1.1/",
        "gopher://127.0.0.1:6379/_INFO",
        "http://a.de/\x00",
        "http://127.0.0.1:80:80/",
    ],
)
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_url(url)
    assert (caught.value.code, caught.value.param) == ("fetch.bad_url", "url")


@pytest.mark.parametrize(
    ("url", "means"),
    [
        ("HTTP://EXAMPLE.com", "http://example.com/"),
        ("http://a.de/%7Ea/b|c?x=%zz", "http://a.de/%7Ea/b|c?x=%zz"),
        ("https://a.de:443?x", "https://a.de/?x"),
        ("http://2130706433/x", "http://127.0.0.1/x"),
        ("http://0x7f.1:8080/", "http://127.0.0.1:8080/"),
        ("http://bücher.de/ä?ö=ü#ß", "http://xn--bcher-kva.de/%C3%A4?%C3%B6=%C3%BC"),
        ("http://[::FFFF:127.0.0.1]/", f"http://[{ip_address('::ffff:127.0.0.1')}]/"),
        ("https://a.de./?q=a%20b&c=%2F", "https://a.de/?q=a%20b&c=%2F"),
    ],
)
def test_a_url_is_asked_for_in_its_one_spelling(url: str, means: str) -> None:
    assert str(parse_url(url)) == means


async def test_the_machine_resolves_names_where_nobody_else_is_given() -> None:
    assert Web(Destinations()).resolve is system_resolve
    assert ip_address("127.0.0.1") in await system_resolve("localhost")


async def test_a_name_that_is_not_resolved_in_time_is_unreachable() -> None:
    async def never(name: str) -> Sequence[Address]:
        await asyncio.sleep(60)
        return []

    slow = Web(destinations([], [80]), WebLimits(resolve_seconds=0.05), never)
    await refused(slow, "http://a.example/", Unavailable, "fetch.unreachable")


PIECES = [
    *(
        b"HTTP/1.1 ",
        b"200",
        b" OK",
        b"\r\n",
        b"\r\n\r\n",
        b"Content-Type: ",
        b"text/html; charset=",
        b"\xff\x00",
        b"utf-8",
    ),
    *(
        b"Content-Length: ",
        b"5",
        b"-1",
        b"99999999999999999999",
        b"Transfer-Encoding: chunked\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
    ),
    *(
        b"Content-Encoding: gzip\r\n",
        gzip.compress(b"hello"),
        b"Location: ",
        b"http://[",
        b"//\xff/",
        b"302",
        b"101",
        b"204",
    ),
    *(b";;;=", b"\t", b" ", b"\n", b"HTTP/9.9 000\r\n", b"Set-Cookie: a=b\r\n", b"hello"),
]


@settings(max_examples=120, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join), st.booleans())
def test_whatever_a_server_says_is_an_answer_or_one_of_our_errors(said: bytes, begun: bool) -> None:
    async def ask() -> None:
        async with site(a=(b"HTTP/1.1 200 OK\r\n" if begun else b"") + said) as s:
            with contextlib.suppress(MoontideError):
                answer = await web(s, total_seconds=5, max_bytes=1000).get(s.url("/a"))
                assert len(answer.body) <= 1000

    asyncio.run(ask())
