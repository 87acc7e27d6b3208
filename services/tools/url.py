"""What counts as an address of the web, in one spelling. Pure.

Input: a URL as a model or a server writes it. Output: the same with its host as ``address.parse_host`` understands it,
so that whoever connects cannot understand another one. Must not know what is allowed.
"""

from ipaddress import IPv6Address
from urllib.parse import quote, urlsplit

from yarl import URL

from services.tools.address import parse_host
from shared.errors import BadInput

URL_CHARS = 4096
WRITTEN = "%/:?#[]@!$&'()*+,;=-._~|"
"""Characters of a URL that are not encoded once more."""


def parse_url(text: str) -> URL:
    """``http`` or ``https``, the host in its one canonical spelling. Raises BadInput(``fetch.bad_url``)."""
    if len(text) > URL_CHARS:
        raise _bad(f"is longer than {URL_CHARS} characters")
    if "\\" in text or any(char.isspace() or not char.isprintable() for char in text):
        raise _bad("holds spaces, backslashes or control characters")
    try:
        url = URL(text)
        host, port = url.raw_host, url.port
    except ValueError as error:
        raise _bad(f"cannot be read: {error}") from None
    if url.scheme not in ("http", "https") or not host or port is None:
        raise _bad("must look like https://host/path")
    if url.raw_user is not None or url.raw_password is not None:
        raise _bad("may hold no user and no password")
    return _canonical(url, host, text)


def _canonical(url: URL, host: str, text: str) -> URL:
    """Path and query stay as they are written: some are signed."""
    written, parsed = urlsplit(text), parse_host(host)
    return URL.build(
        scheme=url.scheme,
        host=f"[{parsed}]" if isinstance(parsed, IPv6Address) else str(parsed),
        port=url.port,
        path=quote(written.path, safe=WRITTEN) or "/",
        query_string=quote(written.query, safe=WRITTEN),
        encoded=True,
    )


def _bad(problem: str) -> BadInput:
    return BadInput("fetch.bad_url", f"the URL {problem}", param="url")
