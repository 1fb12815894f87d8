"""Webhooks, judged here and by Twilio's own library: the verdicts are the same, but for what README.md names."""

import hashlib
import inspect
import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from multidict import MultiDict
from twilio.request_validator import RequestValidator as Official

import credvault
from conftest import AUTH_TOKEN, Server
from credvault.twilio import RequestValidator
from credvault.v1 import use_service_pb2 as use

REQUESTS = 2000
SEED = 0x70111500000001

URL = "https://example.com/voice?a=b"
PARAMS = {"CallSid": "CA1", "From": "+14158675309"}


@pytest.fixture(scope="module")
def validator(vault: credvault.Vault, provider: str) -> RequestValidator:
    return RequestValidator(vault, provider)


@pytest.fixture(scope="module")
def official() -> Official:
    return Official(AUTH_TOKEN)


class ListForm:
    """Fields as Flask, Django and Starlette keep them."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self.fields = fields

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self.fields))

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, name: str) -> str:
        return self.getlist(name)[-1]

    def getlist(self, name: str) -> list[str]:
        return [value for other, value in self.fields if other == name]


Fields = list[tuple[str, str]]
FORMS: dict[str, Callable[[Fields], Any]] = {
    "dict": dict,
    "getlist": ListForm,
    "getall": MultiDict,
    "nothing": lambda _: None,
    "empty": lambda _: {},
}


class Request:
    """A request as Twilio might make it, with what is awkward in URLs and fields."""

    def __init__(self, rng: random.Random) -> None:
        def text(letters: list[str], longest: int) -> str:
            return "".join(rng.choices(letters, k=rng.randint(0, longest)))

        word = ["a", "b", "B", "Sid", "-", "_", "%20", "%2F", "+", "~", "0", "é"]
        value = ["a", "B", " ", "+", "&", "=", "%", "\n", "é", "1", "本", ""]
        host = rng.choice(["example.com", "a.b.example", "user:pass@example.com", "203.0.113.7"])
        # The library takes a user with a password and a port for a host of another name.
        port = "" if "@" in host else rng.choice(["", "", ":80", ":443", ":8443"])
        # It takes 80 for the port of wss as well.
        scheme = rng.choice(["http", "https"] if port else ["http", "https", "wss"])
        self.url = f"{scheme}://{host}{port}/{text(word, 4)}"
        for number in range(rng.randint(0, 3)):
            self.url += f"{'&' if number else '?'}x{text(word, 2)}={text(word, 4)}"
        names = ["A", "a", "Ab", "B", "Digits", "é"]
        self.fields = [(rng.choice(names), text(value, 3)) for _ in range(rng.randint(0, 8))]
        self.form = rng.choice([*FORMS, "text", "text"])
        self.body = json.dumps({"a": text(["b", "é", "1", " "], 9)}, ensure_ascii=False)
        if self.form == "text":
            digest = hashlib.sha256(self.body.encode()).hexdigest()
            self.url += f"{'&' if '?' in self.url else '?'}bodySHA256={digest}"

    @property
    def params(self) -> Any:
        return self.body if self.form == "text" else FORMS[self.form](self.fields)

    def change(self, rng: random.Random) -> None:
        """Something else in one place, or nothing else."""
        match rng.randint(0, 6):
            case 0:
                # Not into a port: the library takes no odd one.
                self.url += rng.choice(["/x", "/&y=1", ""])
            case 1:
                self.fields = [*reversed(self.fields), *self.fields[:1]]
            case 2:
                self.fields.append(("B", "1"))
                self.body += "x"
            case 3:
                # Behind a proxy the port goes.
                for port in (":80/", ":443/", ":8443/"):
                    self.url = self.url.replace(port, "/", 1)
            case 4:
                self.form = rng.choice([*FORMS, "text"] if "bodySHA256" in self.url else [*FORMS])


def test_all_requests_are_judged_alike(validator: RequestValidator, official: Official) -> None:
    rng = random.Random(SEED)
    verdicts: Counter[tuple[str, bool]] = Counter()
    for _ in range(REQUESTS):
        request = Request(rng)
        signed = {} if request.form == "text" else request.params
        signature = official.compute_signature(request.url, signed)
        if rng.random() < 0.2:
            signature = rng.choice(["", "x", signature[:-1], signature.swapcase(), signature + "=", f" {signature}"])
        else:
            assert validator.validate(request.url, request.params, signature), vars(request)
            request.change(rng)
        theirs = official.validate(request.url, request.params, signature)
        if "bodySHA256" in request.url and request.form != "text" and theirs:
            # Where the URL has the hash of a body the vault takes nothing else for it.
            assert not validator.validate(request.url, request.params, signature), vars(request)
            verdicts["hash without its body", False] += 1
            continue
        assert validator.validate(request.url, request.params, signature) == theirs, vars(request)
        if isinstance(request.params, str):
            # Theirs takes no bytes.
            assert validator.validate(request.url, request.params.encode(), signature) == theirs
        verdicts[request.form, theirs] += 1
    print(f"seed {SEED:#x}: {dict(verdicts)}")
    assert verdicts.pop(("hash without its body", False)) > 10
    assert {form for form, _ in verdicts} == {*FORMS, "text"}
    assert all(verdicts[form, verdict] > 10 for form in (*FORMS, "text") for verdict in (True, False)), verdicts


def test_planted_one_that_is_not_asked_is_not_alike(official: Official) -> None:
    """The comparison above turns red over a verdict that is always the same."""

    class Yes(RequestValidator):
        def validate(self, *_: object, **__: object) -> bool:
            return True

    with pytest.raises(AssertionError):
        test_all_requests_are_judged_alike(Yes.__new__(Yes), official)


def test_it_stands_where_theirs_stood() -> None:
    ours = inspect.signature(RequestValidator.validate).parameters
    theirs = inspect.signature(Official.validate).parameters
    assert [(it.name, it.kind, it.default) for it in ours.values()] == [
        (it.name, it.kind, it.default) for it in theirs.values()
    ]
    # Who signs has the token, which is nowhere but in the vault.
    assert not hasattr(RequestValidator, "compute_signature")


def test_the_whole_answer_tells_unsigned_from_wrong(validator: RequestValidator, official: Official) -> None:
    signature = official.compute_signature(URL, PARAMS)
    answer = validator.check(URL, PARAMS, signature)
    assert (answer.valid, answer.version, answer.fault) == (True, 1, use.WEBHOOK_FAULT_UNSPECIFIED)
    for absent in (None, ""):
        assert validator.check(URL, PARAMS, absent).fault == use.WEBHOOK_FAULT_NOT_SIGNED
        assert not validator.validate(URL, PARAMS, absent)
    assert validator.check(URL, {}, signature).fault == use.WEBHOOK_FAULT_WRONG_SIGNATURE
    signature = official.compute_signature(URL, {})
    assert validator.check(URL, "{}", signature).fault == use.WEBHOOK_FAULT_WRONG_BODY
    hashed = f"{URL}&bodySHA256={hashlib.sha256(b'{}').hexdigest()}"
    signed = official.compute_signature(hashed, {})
    bodies: list[tuple[Any, bool]] = [
        ("{}", True),
        (b"{}", True),
        ({}, False),
        (None, False),
        ("", False),
        ("[]", False),
    ]
    for params, valid in bodies:
        answer = validator.check(hashed, params, signed)
        assert answer.fault == (use.WEBHOOK_FAULT_UNSPECIFIED if valid else use.WEBHOOK_FAULT_WRONG_BODY), params
    assert validator.validate(URL, "", signature), "a GET has no body"
    assert validator.validate(URL, b"", signature)


@pytest.mark.parametrize("algorithm", [None, "", "HMAC_SHA1", "hmac_sha1"])
def test_the_algorithm_of_auth_tokens_is_known(
    validator: RequestValidator, official: Official, algorithm: str | None
) -> None:
    signature = official.compute_signature(URL, PARAMS)
    assert official.validate(URL, PARAMS, signature, algorithm)
    assert validator.validate(URL, PARAMS, signature, algorithm)


def test_another_algorithm_is_not_valid_and_logged(
    validator: RequestValidator, official: Official, caplog: pytest.LogCaptureFixture
) -> None:
    signature = official.compute_signature(URL, PARAMS)
    with caplog.at_level(logging.WARNING):
        assert not validator.validate(URL, PARAMS, signature, algorithm="HMAC_SHA256")
    assert "does not know" in caplog.text


def test_without_a_verdict_it_raises(
    server: Server, vault: credvault.Vault, validator: RequestValidator, official: Official
) -> None:
    signature = official.compute_signature(URL, PARAMS)
    with credvault.connect("127.0.0.1:1", token_file=server.token_file) as away:
        with pytest.raises(credvault.Unavailable):
            RequestValidator(away, "accounts/dev/providers/twilio", timeout=0.2).validate(URL, PARAMS, signature)
    with pytest.raises(credvault.NotFound):
        RequestValidator(vault, "accounts/dev/providers/nobody").validate(URL, PARAMS, signature)
    with pytest.raises(credvault.InvalidArgument):
        validator.validate("/voice", PARAMS, signature)
    with pytest.raises(credvault.ResourceExhausted):
        validator.validate(URL, "x" * 600_000, signature)
    with pytest.raises(TypeError):
        validator.validate(URL, {"a": 1}, signature)
