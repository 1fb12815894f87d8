"""What README.md shows, run as it stands there but for the vault's address."""

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

import django
import pytest
from django.conf import settings
from django.test import RequestFactory
from fastapi.testclient import TestClient
from grpc import StatusCode
from twilio.request_validator import RequestValidator as Official

import credvault
from conftest import ACCOUNT, AUTH_TOKEN
from credvault.errors import Outcome
from credvault.v1 import credential_service_pb2 as credentials
from credvault.v1 import provider_service_pb2 as providers
from harness import dev_vault, fake_twilio

README = Path(__file__).parent.parent / "README.md"
ADDRESS = "127.0.0.1:50051"
PARAMS = {"CallSid": "CA1", "Digits": "1 2"}


class Readme:
    """The blocks of Python, and what those that ran have left."""

    def __init__(self, address: str) -> None:
        text = README.read_text(encoding="utf-8")
        self._blocks = [
            (text[: found.start()].count("\n") + 2, found.group(1).replace(ADDRESS, address))
            for found in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        ]
        # FastAPI looks names up in the module of a function.
        self._last = ""
        self._module = ModuleType("readme")
        sys.modules["readme"] = self._module

    def run_until(self, mark: str) -> dict[str, Any]:
        """Runs the next blocks, until one that has the mark in it has run, too."""
        while True:
            line, block = self._blocks.pop(0)
            # So that a failure names its line.
            self._last = "\n" * (line - 1) + block
            exec(compile(self._last, str(README), "exec"), vars(self._module))
            if mark in block:
                return dict(vars(self._module))

    def again_with(self, vault: object) -> dict[str, Any]:
        """Runs the last block again, with another vault."""
        made = {**vars(self._module), "vault": vault}
        exec(compile(self._last, str(README), "exec"), made)
        return made

    @property
    def is_over(self) -> bool:
        return not self._blocks


def test_what_the_readme_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with fake_twilio(tmp_path) as url, dev_vault(tmp_path, {"CREDVAULT_UPSTREAM_TWILIO_API_URL": url}) as address:
        readme = Readme(address)
        made = readme.run_until("CreateCredential")
        vault: credvault.Vault = made["vault"]
        assert made["password"].reveal() == made["response"].issued.password
        provider = providers.Provider(twilio=providers.TwilioProvider(account_sid="AC" + "1" * 32))
        vault.providers.CreateProvider(
            providers.CreateProviderRequest(
                parent=ACCOUNT, provider_id="twilio", auth_token=AUTH_TOKEN, provider=provider
            )
        )

        made = readme.run_until("AlreadyIssued")
        assert made["password"].reveal()
        lost(readme)
        made = readme.run_until("PrivateKey")
        assert made["rotated"].sealed.version == 3

        flask(readme.run_until("Flask"))
        django_view(readme.run_until("django"))
        fastapi(readme.run_until("FastAPI"))
        readme.run_until("asyncio.run")
        assert readme.is_over
        vault.close()


def lost(readme: Readme) -> None:
    """A rotation of which nobody knows whether it was: its id goes into a copy, and not into the next rotation."""

    def rotate(_: credentials.RotateCredentialRequest) -> NoReturn:
        outcome = Outcome("RotateCredential", StatusCode.UNAVAILABLE, "", request_id="r", may_have_happened=True)
        raise credvault.Unavailable(outcome)

    made = readme.again_with(SimpleNamespace(credentials=SimpleNamespace(RotateCredential=rotate)))
    assert made["rotate"].request_id == ""
    made["rotate"].request_id = "r"
    assert made["pending"] == made["rotate"]


def signed(url: str) -> str:
    signature = Official(AUTH_TOKEN).compute_signature(url, PARAMS)
    assert isinstance(signature, str)
    return signature


def flask(made: dict[str, Any]) -> None:
    client = made["app"].test_client()
    for signature, status in ((signed("http://localhost/voice"), 200), ("wrong", 403), (None, 403)):
        headers = {} if signature is None else {"X-Twilio-Signature": signature}
        assert client.post("/voice", data=PARAMS, headers=headers).status_code == status
    away = credvault.connect("127.0.0.1:1", token="cv1_x")
    made["validator"]._vault, there = away, made["validator"]._vault
    made["validator"]._timeout = 0.1
    assert client.post("/voice", data=PARAMS, headers={"X-Twilio-Signature": "any"}).status_code == 503
    made["validator"]._vault, made["validator"]._timeout = there, 5.0
    away.close()


def django_view(made: dict[str, Any]) -> None:
    settings.configure(ALLOWED_HOSTS=["*"], USE_TZ=True)
    django.setup()
    for signature, status in ((signed("http://testserver/voice"), 200), ("wrong", 403)):
        request = RequestFactory().post("/voice", PARAMS, headers={"X-Twilio-Signature": signature})
        assert made["voice"](request).status_code == status


def fastapi(made: dict[str, Any]) -> None:
    with TestClient(made["app"]) as client:
        for signature, status in ((signed("http://testserver/voice"), 200), ("wrong", 403)):
            answer = client.post("/voice", data=PARAMS, headers={"X-Twilio-Signature": signature})
            assert answer.status_code == status
