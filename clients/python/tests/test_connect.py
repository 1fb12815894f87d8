"""Where a client connects, how, and what it shows on the way."""

import asyncio
import ipaddress
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import credvault
import credvault.aio
from conftest import Server
from credvault._target import Target
from credvault.v1 import credential_service_pb2 as credentials
from harness import command, served_vault

LISTS = credentials.ListCredentialsRequest(parent="accounts/acme")
WATCHES = credentials.WatchCredentialsRequest(parent="accounts/acme")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051"),
        ("http://127.8.9.1:1", "127.8.9.1:1"),
        ("[::1]:50051", "[::1]:50051"),
        ("localhost:50051", "127.0.0.1:50051"),
        ("LOCALHOST:5", "127.0.0.1:5"),
        ("http://LocalHost:5", "127.0.0.1:5"),
        ("https://vault.example.com:50051", "dns:///vault.example.com:50051"),
        # Hosts, and no schemes of gRPC's.
        ("https://unix:1", "dns:///unix:1"),
        ("https://dns:443", "dns:///dns:443"),
        ("https://10.0.0.1:1", "10.0.0.1:1"),
        ("https://[::1]:1", "[::1]:1"),
        ("unix:/run/credvault/socket", "unix:/run/credvault/socket"),
    ],
)
def test_an_address_leads_somewhere(address: str, name: str) -> None:
    assert Target(address).name == name


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("10.0.0.1:50051", "https://"),
        ("http://vault.example.com:50051", "another machine"),
        ("[::ffff:127.0.0.1]:50051", "another machine"),
        ("0.0.0.0:50051", "another machine"),
        ("vault.example.com:50051", "another machine"),
        ("localhost.example.com:50051", "another machine"),
        ("127.0.0.1.example.com:50051", "another machine"),
        ("127.1:50051", "another machine"),
        ("x@localhost:50051", "HOST:PORT"),
        ("https://127.0.0.1", "HOST:PORT"),
        ("https://x@host:1", "HOST:PORT"),
        ("https://host:1/path", "HOST:PORT"),
        ("https://host:99999", "HOST:PORT"),
        ("https://:1", "HOST:PORT"),
        ("dns:///vault.example.com:1", "HOST:PORT"),
        ("unix:", "unix:PATH"),
        ("127.0.0.1", "HOST:PORT"),
        ("localhost:50051/", "HOST:PORT"),
        ("", "HOST:PORT"),
    ],
)
def test_a_token_goes_over_no_network_unencrypted(address: str, says: str) -> None:
    for connect in (credvault.connect, credvault.aio.connect):
        with pytest.raises(ValueError, match=says):
            connect(address, token="cv1_x")


def test_no_proxy_comes_between_this_machine_and_itself(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC would give such a proxy the token."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with credvault.connect(server.address, token_file=server.token_file) as vault:
        vault.credentials.ListCredentials(credentials.ListCredentialsRequest(parent="accounts/dev"))


def test_a_token_is_one_line_and_never_shown(tmp_path: Path) -> None:
    for bad in ("", "two\nlines-cv1", "two words-cv1", "ü-cv1", "\x7f-cv1"):
        with pytest.raises(ValueError, match="must be one line") as raised:
            credvault.connect("127.0.0.1:1", token=bad)
        assert "cv1" not in str(raised.value)
    vault = credvault.connect("127.0.0.1:1", token="cv1_secret")
    assert repr(vault) == str(vault) == "Vault('127.0.0.1:1')"
    with pytest.raises(credvault.Unavailable) as unavailable:
        vault.credentials.ListCredentials(LISTS, timeout=0.1)
    trace: BaseException | None = unavailable.value
    while trace is not None:
        assert "cv1_secret" not in f"{trace} {trace!r}"
        trace = trace.__context__
    vault.close()
    with pytest.raises(FileNotFoundError):
        credvault.connect("127.0.0.1:1", token_file=tmp_path / "none")
    with pytest.raises(ValueError, match="not both"):
        credvault.connect("127.0.0.1:1", token="cv1_secret", token_file=tmp_path / "none")


def variables(error: BaseException | None) -> list[str]:
    """Those of all frames that an error leads to, as what reports errors shows them."""
    found = []
    while error is not None:
        frames = error.__traceback__
        while frames is not None:
            found += [f"{name} = {value!r}" for name, value in frames.tb_frame.f_locals.items()]
            frames = frames.tb_next
        error = error.__cause__ or error.__context__
    return found


def test_a_token_is_in_no_variable_of_a_frame() -> None:
    async def ask() -> None:
        async with credvault.aio.connect("127.0.0.1:1", token=credvault.Secret("cv1_secret")) as vault:
            await vault.credentials.ListCredentials(LISTS, timeout=0.1)

    async def watch() -> None:
        async with credvault.aio.connect("127.0.0.1:1", token=credvault.Secret("cv1_secret")) as vault:
            async for _ in vault.credentials.WatchCredentials(WATCHES, timeout=0.1):
                pass

    with credvault.connect("127.0.0.1:1", token=credvault.Secret("cv1_secret")) as vault:
        for call in (
            lambda: vault.credentials.ListCredentials(LISTS, timeout=0.1),
            lambda: next(vault.credentials.WatchCredentials(WATCHES, timeout=0.1)),
            lambda: asyncio.run(ask()),
            lambda: asyncio.run(watch()),
        ):
            with pytest.raises(credvault.Unavailable) as raised:
                call()
            found = variables(raised.value)
            assert any("<credvault." in it for it in found)
            assert not [it for it in found if "cv1_secret" in it]
    with pytest.raises(ValueError, match="one line") as refused:
        credvault.connect("127.0.0.1:1", token=credvault.Secret("cv1_secret\n"))
    assert not [it for it in variables(refused.value) if "cv1_secret" in it]


def test_certificate_files_need_tls(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("anything")
    for address in ("127.0.0.1:1", "unix:/run/credvault/socket"):
        with pytest.raises(ValueError, match="need TLS"):
            credvault.connect(address, ca_file=file)
    with pytest.raises(ValueError, match="needs its key"):
        credvault.connect("https://127.0.0.1:1", client_cert_file=file)


class Authority:
    """A private CA."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = self._builder(self._name, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=None))
        certificate = builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, constraints: x509.BasicConstraints
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(constraints, critical=True)
        )

    def issue(self, name: str, *subjects: x509.GeneralName) -> tuple[Path, Path]:
        """A certificate and its key in files."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([]), key.public_key(), x509.BasicConstraints(ca=False, path_length=None))
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        certificate = (
            builder.add_extension(x509.SubjectAlternativeName(subjects), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(both, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        files = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].touch(mode=0o600)
        form = serialization.PrivateFormat.PKCS8
        files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return files


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a vault, `data`, and the token of an account's admin, `acme.token`."""
    folder = tmp_path_factory.mktemp("made")
    command(folder, "init", "--data-dir", "data")
    create = ["tokens", "create", "--local", "--data-dir", "data", "--account", "acme"]
    command(folder, *create, "--role", "account-admin", "--out", "acme.token")
    return folder


@pytest.fixture(scope="module")
def authority(made: Path) -> Authority:
    return Authority(made, "ca")


@pytest.fixture(scope="module")
def with_tls(made: Path, authority: Authority) -> Iterator[str]:
    """The address of that vault, over TLS, with a certificate of the private CA."""
    names = x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")
    certificate, key = authority.issue("server", *names)
    tls = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    trust = ["--tls-trust-domain", f"example.org={authority.file}"]
    with served_vault(made, "127.0.0.1:0", *tls, *trust) as address:
        yield f"https://{address}"


def test_a_private_ca_vouches_for_the_vault(made: Path, authority: Authority, with_tls: str) -> None:
    for address in (with_tls, with_tls.replace("127.0.0.1", "localhost")):
        with credvault.connect(address, token_file=made / "acme.token", ca_file=authority.file) as vault:
            vault.credentials.ListCredentials(LISTS)


def test_a_host_is_no_scheme(tmp_path: Path, made: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what is meant for a host called `unix` would go into a socket that is called like its port."""
    monkeypatch.chdir(tmp_path)
    with socket.create_server("1", family=socket.AF_UNIX) as listener:
        listener.settimeout(0.5)
        with credvault.connect("https://unix:1", token_file=made / "acme.token", ca_file=authority.file) as vault:
            with pytest.raises(credvault.Unavailable):
                vault.credentials.ListCredentials(LISTS, timeout=0.5)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_vault_that_nobody_vouches_for_gets_no_call(made: Path, with_tls: str) -> None:
    stranger = Authority(made, "stranger")
    for ca_file in (stranger.file, None):
        with credvault.connect(with_tls, token_file=made / "acme.token", ca_file=ca_file) as vault:
            with pytest.raises(credvault.Unavailable):
                vault.credentials.ListCredentials(LISTS, timeout=0.5)


def test_a_certificate_says_who_calls(authority: Authority, with_tls: str) -> None:
    identity = x509.UniformResourceIdentifier("spiffe://example.org/edge/one")
    certificate, key = authority.issue("edge", identity)
    with credvault.connect(with_tls, ca_file=authority.file, client_cert_file=certificate, client_key_file=key) as edge:
        # It is known, and has no role there: that is more than nobody would be told.
        with pytest.raises(credvault.NotFound):
            edge.credentials.ListCredentials(LISTS)
    with credvault.connect(with_tls, ca_file=authority.file) as nobody:
        with pytest.raises(credvault.Unauthenticated):
            nobody.credentials.ListCredentials(LISTS)


def test_a_unix_socket_is_within_this_machine(tmp_path: Path) -> None:
    command(tmp_path, "init", "--data-dir", "data")
    create = ["tokens", "create", "--local", "--data-dir", "data", "--account", "acme", "--role", "reader"]
    command(tmp_path, *create, "--out", "reader.token")
    # The path of a socket may have about 100 bytes, and those of tests are long.
    address = f"unix:{os.path.relpath(tmp_path / 'socket')}"
    with served_vault(tmp_path, "unix:socket"):
        with credvault.connect(address, token_file=tmp_path / "reader.token") as vault:
            vault.credentials.ListCredentials(LISTS)
