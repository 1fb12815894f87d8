"""Twilio's own library: what it signs, what it takes, and what it reads in access tokens. One request a line on standard input,
one answer a line on standard output."""

import json
import sys

from twilio.jwt.access_token import AccessToken
from twilio.request_validator import RequestValidator


class Form:
    """Fields as Django keeps them: names that may be there more than once."""

    def __init__(self, fields):
        self.fields = fields

    def __iter__(self):
        return iter([name for name, _ in self.fields])

    def __len__(self):
        return len(self.fields)

    def getlist(self, name):
        return [value for other, value in self.fields if other == name]


def webhook(asked):
    validator = RequestValidator(asked["token"])
    params = asked["body"] if "body" in asked else Form(asked["fields"])
    if "signature" in asked:
        return {"valid": validator.validate(asked["url"], params, asked["signature"])}
    signed = {} if "body" in asked else params
    return {"signature": validator.compute_signature(asked["url"], signed)}


def access_token(asked):
    try:
        read = AccessToken.from_jwt(asked["jwt"], asked["secret"])
    except Exception as error:
        return {"error": str(error)}
    return {"headers": read.headers, "payload": read.payload}


for line in sys.stdin.readlines():
    asked = json.loads(line)
    print(json.dumps(access_token(asked) if "jwt" in asked else webhook(asked)))
