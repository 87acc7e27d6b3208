"""TLS and credentials files, against servers that ask for them."""

import asyncio
import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nkeys
import pytest

from shared.bus.broker import find_program
from shared.bus.connection import BusConfig, connect
from shared.errors import Unauthorized, Unavailable

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the test's certificates")


@asynccontextmanager
async def server(directory: Path, configuration: str) -> AsyncIterator[int]:
    """A nats-server with ``configuration``; yields its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = directory / "server.conf"
    path.write_text(f'listen: "127.0.0.1:{port}"\n{configuration}')
    process = await asyncio.create_subprocess_exec(
        str(find_program()), "--config", str(path), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        process.terminate()
        await process.wait()


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for ``localhost`` and its key."""
    cert, key = directory / f"{name}.pem", directory / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


@needs_openssl
async def test_tls_in_both_directions_and_a_strange_server_is_refused(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "server")
    strange, strange_key = certificate(tmp_path, "strange")
    client, client_key = certificate(tmp_path, "client")
    configuration = f'tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{client}", verify: true }}'
    async with server(tmp_path, configuration) as port:
        url = f"tls://localhost:{port}"
        trusted = BusConfig(nats_url=url, tls_ca_file=cert, tls_cert_file=client, tls_key_file=client_key)
        async with connect(trusted, "a") as bus:
            await bus.flush()
        for ca, own, own_key in ((strange, client, client_key), (cert, strange, strange_key)):
            config = BusConfig(
                nats_url=url, tls_ca_file=ca, tls_cert_file=own, tls_key_file=own_key, connect_seconds=0.5
            )
            with pytest.raises((Unauthorized, Unavailable)):
                async with connect(config, "a"):
                    pass


@needs_openssl
async def test_a_password_is_not_told_to_a_server_without_the_tls_that_was_configured(tmp_path: Path) -> None:
    cert, _ = certificate(tmp_path, "ca")
    (tmp_path / "password").write_text("a-secret")
    said = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.12.0","auth_required":true,"max_payload":1048576}\r\n')
        said.extend(await reader.read())
        writer.close()

    eavesdropper = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = eavesdropper.sockets[0].getsockname()[1]
    config = BusConfig(
        nats_url=f"nats://127.0.0.1:{port}", user="moontide", password_file=tmp_path / "password", tls_ca_file=cert
    )
    with pytest.raises(Unauthorized):
        async with connect(config, "a"):
            pass
    eavesdropper.close()
    assert b"a-secret" not in said


def _encoded(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _token(issuer: "nkeys.KeyPair", subject: "nkeys.KeyPair", name: str, claims: dict[str, object]) -> str:
    """A NATS JSON web token: version 2, signed with ed25519."""
    header = _encoded({"typ": "JWT", "alg": "ed25519-nkey"})
    body = {"jti": name, "iat": int(time.time()), "iss": issuer.public_key.decode(), "name": name}
    body |= {"sub": subject.public_key.decode(), "nats": {"version": 2, **claims}}
    signed = f"{header}.{_encoded(body)}"
    return f"{signed}.{_encoded(issuer.sign(signed.encode()))}"


def _pair(prefix: int, number: int) -> "nkeys.KeyPair":
    return nkeys.from_seed(nkeys.encode_seed(bytes([number]) * 32, prefix))


async def test_a_credentials_file_opens_a_server_with_accounts(tmp_path: Path) -> None:
    operator = _pair(nkeys.PREFIX_BYTE_OPERATOR, 1)
    account = _pair(nkeys.PREFIX_BYTE_ACCOUNT, 2)
    user, stranger = _pair(nkeys.PREFIX_BYTE_USER, 3), _pair(nkeys.PREFIX_BYTE_USER, 4)
    limits = {"subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1}
    operator_token = _token(operator, operator, "operator", {"type": "operator"})
    account_token = _token(operator, account, "account", {"type": "account", "limits": limits | {"wildcards": True}})
    user_claims = {"type": "user", "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}}
    user_token = _token(account, user, "user", user_claims)
    configuration = (
        f"operator: {operator_token}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {account.public_key.decode()}: {account_token} }}\n"
    )
    for name, pair in (("good", user), ("bad", stranger)):
        seed = bytes(pair.seed).decode()
        (tmp_path / f"{name}.creds").write_text(
            f"-----BEGIN NATS USER JWT-----\n{user_token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    async with server(tmp_path, configuration) as port:
        url = f"nats://127.0.0.1:{port}"
        async with connect(BusConfig(nats_url=url, credentials_file=tmp_path / "good.creds"), "a") as bus:
            await bus.flush()
        with pytest.raises(Unauthorized):
            async with connect(BusConfig(nats_url=url, credentials_file=tmp_path / "bad.creds"), "a"):
                pass


async def test_unreadable_files_are_named_by_their_field() -> None:
    missing = Path("/nonexistent/secret")
    with pytest.raises(Unauthorized) as refused:
        async with connect(BusConfig(nats_url="nats://127.0.0.1:1", user="u", password_file=missing), "a"):
            pass
    assert refused.value.param == "password_file"
