"""Kamailio's questions to Credvault: which challenge a phone gets, and whether its answer is right.

Kamailio loads this file with app_python3, and `route[AUTH]` calls `authenticate`. Nothing here lets a request
through but the line `return PASS`. Whatever raises, or returns anything else, leaves the answer that `route[AUTH]`
prepared: 503.
"""

import ipaddress
import os
import re
import site
import time

import KSR


def setting(name):
    """The value of `#!define NAME "value"` in kamailio.cfg."""
    return KSR.kx.get_def(name).strip('"')


site.addsitedir(setting("CREDVAULT_PACKAGES"))

import grpc  # noqa: E402  (found there)
from credvault.v1 import use_service_pb2 as wire  # noqa: E402
from credvault.v1 import use_service_pb2_grpc as services  # noqa: E402

TARGET = setting("CREDVAULT_TARGET")
CA_FILE, CERT_FILE, KEY_FILE = (setting(f"CREDVAULT_{it}_FILE") for it in ("CA", "CERT", "KEY"))
ACCOUNT = setting("CREDVAULT_ACCOUNT")
TOKEN_FILE = setting("CREDVAULT_TOKEN_FILE")
TIMEOUT = int(setting("CREDVAULT_TIMEOUT_MS")) / 1000
ALGORITHM = setting("CREDVAULT_ALGORITHM")
REALM = setting("SIP_DOMAIN")

PASS, REFUSE = 1, -1

# By the answer that asks for a password: the header that brings it, the one that asks, and the reason phrase.
CHALLENGES = {
    "401": ("Authorization", "WWW-Authenticate", "Unauthorized"),
    "407": ("Proxy-Authorization", "Proxy-Authenticate", "Proxy Authentication Required"),
}

# What to do about a call that fails, by its code.
ADVICE = {
    grpc.StatusCode.UNAVAILABLE: f"is the vault running, and at {TARGET}?",
    grpc.StatusCode.DEADLINE_EXCEEDED: f"no answer from {TARGET} in {TIMEOUT} s: is it overloaded, or the way to it?",
    grpc.StatusCode.UNAUTHENTICATED: f"put a new API token into {TOKEN_FILE}; nothing needs a restart",
    grpc.StatusCode.PERMISSION_DENIED: f"the token in {TOKEN_FILE} needs the role verifier in {ACCOUNT}",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "the vault has too much to do, or this address failed too often",
    grpc.StatusCode.INVALID_ARGUMENT: "see CREDVAULT_ACCOUNT, CREDVAULT_ALGORITHM and SIP_DOMAIN in kamailio.cfg",
}

# One parameter of a Digest header. No escapes: the vault takes none either.
PARAMETER = re.compile(r'\s*([\w*-]+)\s*=\s*("[^"\\]*"|[^\s,"]+)\s*(?:,|$)')

# User and host of a URI.
ADDRESS = re.compile(r"sips?:(?:([^@]*)@)?(\[[^]]*\]|[^:;?@]+)(?:[:;?].*)?", re.IGNORECASE)

# What is in the file of the API token.
TOKEN = re.compile(rb"[!-~]+")


class Malformed(Exception):
    """The request has an Authorization header that cannot be read, or that is for another request."""


def address(uri):
    """Who is meant by a URI, without port and parameters: some phones leave them out of their digest."""
    match = ADDRESS.fullmatch(uri)
    return match and (match[1], match[2].lower())


def received(read, name, *more):
    """What is in the request."""
    try:
        return read(name, *more)
    except UnicodeDecodeError:
        raise Malformed from None


def credentials(header):
    """The parameters of the Digest header for our realm; None if there is none."""
    for index in range(8):
        text = received(KSR.hdr.get_idx, header, index)
        if text is None:
            return None
        scheme, _, rest = text.strip().partition(" ")
        if scheme.lower() != "digest":
            continue
        found, position = {}, 0
        while position < len(rest):
            match = PARAMETER.match(rest, position)
            if match is None or match[1].lower() in found:
                raise Malformed
            found[match[1].lower()] = match[2].strip('"')
            position = match.end()
        if found.get("realm") == REALM:
            return found
    return None


def channel():
    """The way to the vault: of this process alone, and opened by its first call."""
    options = {
        # Look for a vault that was away again at once, not after minutes.
        "grpc.initial_reconnect_backoff_ms": 200,
        "grpc.max_reconnect_backoff_ms": 1000,
        # Notice that a connection is dead though nobody closed it.
        "grpc.keepalive_time_ms": 30_000,
        "grpc.keepalive_timeout_ms": 5_000,
        # The environment may name a proxy, which must not see the token.
        "grpc.enable_http_proxy": 0,
    }
    if TARGET.startswith("unix:"):
        # gRPC would name the path as the host, which HTTP/2 does not take.
        options["grpc.default_authority"] = "localhost"
    options = tuple(options.items())
    if not CA_FILE:
        return grpc.insecure_channel(TARGET, options)
    files = (CA_FILE, KEY_FILE, CERT_FILE)
    read = [open(file, "rb").read() if file else None for file in files]
    return grpc.secure_channel(TARGET, grpc.ssl_channel_credentials(*read), options)


def is_local(target):
    """Whether what is sent there stays on this machine."""
    host = target.rpartition(":")[0].strip("[]")
    try:
        # Not "localhost", which is looked up.
        return target.startswith("unix:") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def answer(code, reason, headers=""):
    """What the phone is told: `route[AUTH]` sends it."""
    KSR.pv.seti("$var(code)", code)
    KSR.pv.sets("$var(reason)", reason)
    KSR.pv.sets("$var(headers)", headers)


class Edge:
    """One for each Kamailio process."""

    def __init__(self):
        self.vault = None
        self.told = {}
        self.ends = 0.0

    def child_init(self, rank):
        # After the fork: gRPC has threads, which no fork copies. Only SIP workers have a positive rank.
        if rank > 0:
            self.vault = services.UseServiceStub(channel())
        return 0

    def authenticate(self, _message, challenge):
        """PASS if the vault vouches for the request's user, whose name is in $var(user) then."""
        try:
            return self.judge(*CHALLENGES[challenge], int(challenge))
        except Malformed:
            answer(400, "Malformed Credentials")
        except grpc.RpcError as error:
            code = error.code()
            self.log(code.name, f"{error.details()}; {ADVICE.get(code, 'see the log of the vault')}")
        except OSError as error:
            self.log("no API token", f"{error}; put one into {TOKEN_FILE}; nothing needs a restart")
        return REFUSE

    def judge(self, brings, asks, reason, code):
        self.ends = time.monotonic() + TIMEOUT
        given, source = credentials(brings), KSR.pv.get("$si")
        stale = False
        if given is not None:
            meant = address(given.get("uri", ""))
            if meant is None or meant != address(received(KSR.pv.get, "$ru")):
                KSR.notice(f"credvault: credentials from {source} are for another Request-URI\n")
                raise Malformed
            verdict = self.verify(given, source)
            if verdict is None:
                return REFUSE
            if verdict.valid:
                KSR.pv.sets("$var(user)", given["username"])
                proof = f'qop={given["qop"]}, rspauth="{verdict.rspauth}", cnonce="{given["cnonce"]}", nc={given["nc"]}'
                KSR.pv.sets("$var(headers)", f"Authentication-Info: {proof}\r\n")
                return PASS
            # The response is right and its nonce used up: with `stale` the phone goes on with another, and asks nobody for a
            # password. Who replays what he saw has none to go on with.
            stale = verdict.stale
            why = wire.InvalidReason.Name(verdict.invalid_reason) if verdict.invalid_reason else "wrong"
            KSR.notice(f"credvault: {given['username']!r} from {source}: {why}\n")
        request = wire.IssueSipChallengeRequest(
            parent=ACCOUNT, realm=REALM, algorithm=ALGORITHM, stale=stale, source=source
        )
        issued = self.vault.IssueSipChallenge(request, **self.call())
        answer(code, reason, f"{asks}: {issued.challenge}\r\n")
        return REFUSE

    def verify(self, given, source):
        """The vault's verdict; None if it has none for these credentials, and the phone is told so."""
        fields = ("username", "realm", "uri", "nonce", "nc", "cnonce", "qop", "algorithm", "response")
        request = wire.VerifySipDigestRequest(
            parent=ACCOUNT,
            method=received(KSR.pv.get, "$rm"),
            source=source,
            check_nonce=True,
            **{field: given.get(field, "") for field in fields},
        )
        try:
            return self.vault.VerifySipDigest(request, **self.call())
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                KSR.notice(f"credvault: malformed credentials from {source}: {error.details()}\n")
                raise Malformed from None
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                # Not 503: whoever stands between us and this phone would take it for an outage of all.
                KSR.notice(f"credvault: {given.get('username')!r} from {source}: {error.details()}\n")
                answer(500, "Too Many Attempts", "Retry-After: 10\r\n")
                return None
            raise

    def call(self):
        """What every call has: when its request ends, and a token, which is read anew so that it can be replaced."""
        metadata = []
        if TOKEN_FILE:
            with open(TOKEN_FILE, "rb") as file:
                token = file.read().strip()
            if not TOKEN.fullmatch(token):
                raise OSError(f"{TOKEN_FILE} is not one line with a token")
            metadata.append(("authorization", f"Bearer {token.decode()}"))
        return {"timeout": max(self.ends - time.monotonic(), 0), "metadata": metadata}

    def log(self, problem, text):
        """Says what is wrong and what to do; each problem once in 5 s, since many phones call while a vault is away."""
        now = time.monotonic()
        if now - self.told.get(problem, -5) >= 5:
            self.told[problem] = now
            KSR.err(f"credvault: {problem}: {text}; phones get 503\n")


def mod_init():
    """Refuses to start on what would be unsafe."""
    problem = None
    if REALM != REALM.lower():
        problem = f"SIP_DOMAIN {REALM} has capitals: write it, and the realm of the credentials, in lower case"
    elif not CA_FILE and not is_local(TARGET):
        problem = f"CREDVAULT_TARGET {TARGET} is not an address of this machine: set CREDVAULT_CA_FILE"
    elif TOKEN_FILE:
        try:
            if os.stat(TOKEN_FILE).st_mode & 0o077:
                problem = f"{TOKEN_FILE} is open to others: chmod 600"
        except OSError as error:
            problem = f"no API token: {error}"
    if problem:
        KSR.err(f"credvault: {problem}\n")  # Kamailio does not say what is raised here.
        raise ValueError(problem)
    return Edge()
