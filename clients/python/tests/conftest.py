"""One vault and one small Twilio for all tests; each test makes what it needs in them under names of its own."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import credvault
from credvault.v1 import credential_service_pb2 as credentials
from credvault.v1 import provider_service_pb2 as providers
from credvault.v1 import use_service_pb2 as use
from harness import REALM, Lossy, dev_vault, digest, fake_twilio

ACCOUNT = "accounts/dev"
AUTH_TOKEN = "a" * 32


@dataclass(frozen=True)
class Server:
    """A running vault, and who may call it."""

    address: str
    token_file: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("vault")
    with fake_twilio(folder) as url, dev_vault(folder, {"CREDVAULT_UPSTREAM_TWILIO_API_URL": url}) as address:
        yield Server(address, folder / "credvault-data" / "dev.token")


@pytest.fixture(scope="session")
def vault(server: Server) -> Iterator[credvault.Vault]:
    with credvault.connect(server.address, token_file=server.token_file) as vault:
        yield vault


@pytest.fixture
def lossy(server: Server) -> Iterator[Lossy]:
    with Lossy(server.address) as lossy:
        yield lossy


@pytest.fixture
def lossy_vault(lossy: Lossy, server: Server) -> Iterator[credvault.Vault]:
    """The vault, by a way that loses answers when it is told to."""
    with credvault.connect(lossy.address, token_file=server.token_file) as vault:
        yield vault


@pytest.fixture(scope="session")
def provider(vault: credvault.Vault) -> str:
    """A provider at the small Twilio, whose Auth Token is `AUTH_TOKEN`."""
    request = providers.CreateProviderRequest(
        parent=ACCOUNT,
        provider_id="twilio",
        auth_token=AUTH_TOKEN,
        provider=providers.Provider(twilio=providers.TwilioProvider(account_sid="AC" + "1" * 32)),
    )
    return vault.providers.CreateProvider(request).provider.name


_numbers = itertools.count(1)


@pytest.fixture
def user() -> str:
    """A username, and id of a credential, that no other test has."""
    return f"user-{next(_numbers)}"


@pytest.fixture
def credential(vault: credvault.Vault, user: str) -> str:
    """The name of a credential of `user`."""
    return vault.credentials.CreateCredential(creation(user)).credential.name


@pytest.fixture
def verifies(vault: credvault.Vault) -> Callable[[str, str], bool]:
    """Whether the vault takes a password for that of a user."""

    def ask(username: str, password: str) -> bool:
        return vault.use.VerifySipDigest(check(username, password)).valid

    return ask


def creation(user: str) -> credentials.CreateCredentialRequest:
    return credentials.CreateCredentialRequest(
        parent=ACCOUNT,
        credential_id=user,
        credential=credentials.Credential(username=user, realm=REALM),
    )


def check(
    username: str, password: str, nonce: str = "n0", nc: str = "00000001", check_nonce: bool = False
) -> use.VerifySipDigestRequest:
    """What an edge asks about a REGISTER with this password."""
    return use.VerifySipDigestRequest(
        parent=ACCOUNT,
        username=username,
        realm=REALM,
        method="REGISTER",
        uri=f"sip:{REALM}",
        nonce=nonce,
        nc=nc,
        cnonce="c0",
        qop="auth",
        response=digest(username, password, nonce, nc, "c0"),
        check_nonce=check_nonce,
    )
