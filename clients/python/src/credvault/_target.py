"""Where a vault is, and who calls it: everything that is decided before the first call."""

import ipaddress
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from credvault._secret import Secret

_FORMS = "the address must be https://HOST:PORT, unix:PATH, or on this machine HOST:PORT"
_NOT_HERE = "the address is on another machine, and a token goes over no network unencrypted: write https://HOST:PORT"

# How long a vault may say nothing before it is pinged, and how long it may take to answer that.
_SILENCE_MS = 10_000
_PING_MS = 3_000

Option = tuple[str, str | int]
Metadata = tuple[tuple[str, str | bytes], ...]


class Target:
    """Where gRPC connects to, over TLS or within this machine."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.is_tls = address.startswith("https://")
        self.options: list[Option] = [
            ("grpc.primary_user_agent", f"credvault-python/{_version()}"),
            # A vault that restarts is back within seconds.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
            # In spite of its name: how long it may take to connect.
            ("grpc.min_reconnect_backoff_ms", 3_000),
            # A connection that died without a word, as behind a NAT, is noticed, calls or not: else every attempt would
            # go into it.
            ("grpc.keepalive_time_ms", _SILENCE_MS),
            ("grpc.keepalive_timeout_ms", _PING_MS),
            ("grpc.http2.ping_timeout_ms", _PING_MS),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
        ]
        if self.is_tls:
            there, host = _host_and_port(address.removeprefix("https://"))
            # Else a host called `unix` or `dns` would be a scheme of gRPC's.
            self.name = there if _is_literal(host) else f"dns:///{there}"
            return
        # Else a proxy of the environment would get the token, in plaintext.
        self.options.append(("grpc.enable_http_proxy", 0))
        if address.startswith("unix:"):
            if not address.removeprefix("unix:"):
                raise ValueError(_FORMS)
            # Else gRPC sends the path, percent-encoded, which is no authority of HTTP (RFC 3986 section 3.2).
            self.options.append(("grpc.default_authority", "localhost"))
            self.name = address
            return
        here, host = _host_and_port(address.removeprefix("http://"))
        if host == "localhost":
            # Not left to DNS, which could lead it elsewhere.
            here = "127.0.0.1" + here[len("localhost") :]
        elif not _is_loopback(host):
            raise ValueError(_NOT_HERE)
        self.name = here


class Token:
    """The token of the caller: one that is given, or one in a file, which is read again when the file changes."""

    def __init__(self, token: str | Secret | None, file: str | os.PathLike[str] | None) -> None:
        if token is not None and file is not None:
            raise ValueError("give the token or the file that holds it, not both")
        self._file = None if file is None else Path(file)
        self._stamp: tuple[int, int, int] | None = None
        self._token: Secret | None = None
        if token is not None:
            self._token = _checked(token if isinstance(token, Secret) else Secret(token))
        self.metadata()  # A file that is not there is told now.

    def metadata(self) -> Metadata:
        """What goes with a call. Raises OSError if the file cannot be read, and ValueError if it holds no token.

        Write it where it goes, and into no variable: those of a frame are in the reports of errors.
        """
        if self._file is not None:
            status = self._file.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp:
                self._token = _checked(Secret(self._file.read_text(encoding="utf-8", errors="replace").strip()))
                self._stamp = stamp
        return () if self._token is None else (("authorization", f"Bearer {self._token.reveal()}"),)


def credentials(
    target: Target,
    ca_file: str | os.PathLike[str] | None,
    client_cert_file: str | os.PathLike[str] | None,
    client_key_file: str | os.PathLike[str] | None,
) -> grpc.ChannelCredentials | None:
    """Those of TLS, from PEM files; None within this machine."""
    if (client_cert_file is None) != (client_key_file is None):
        raise ValueError("a client certificate needs its key, and the key its certificate")
    ca, certificate, key = (
        None if file is None else Path(file).read_bytes() for file in (ca_file, client_cert_file, client_key_file)
    )
    if not target.is_tls:
        if ca is not None or certificate is not None:
            raise ValueError("certificate files need TLS: write the address as https://HOST:PORT")
        return None
    return grpc.ssl_channel_credentials(ca, key, certificate)


def _version() -> str:
    try:
        return version("credvault")
    except PackageNotFoundError:
        return "unknown"  # Its files are there, and it was not installed.


def _host_and_port(rest: str) -> tuple[str, str]:
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(_FORMS) from None
    if not host or not port or parts.netloc != rest or "@" in rest or not rest.endswith(f":{port}"):
        raise ValueError(_FORMS)
    return rest, host


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False  # A name, which could lead anywhere.
    # An IPv4 address in an IPv6 one counts as neither.
    return address.is_loopback and getattr(address, "ipv4_mapped", None) is None


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _checked(token: Secret) -> Secret:
    if not token.reveal() or not all("!" <= character <= "~" for character in token.reveal()):
        raise ValueError("the token must be one line, as `credvault tokens create` prints it")
    return token
