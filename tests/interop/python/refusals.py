"""The SDKs of OpenAI and Anthropic, and urllib: a refusal of the broker is an error that shows the broker's sentence."""

import json
import urllib.error
import urllib.parse
import urllib.request

import anthropic
import openai

from scene import CONTACTS, ID, ISSUER, SECRET


def with_password(user, password, url=ISSUER):
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, url, user, password)
    # Both handlers look at the challenges, and raise at the name of a scheme that they do not know.
    handlers = (urllib.request.HTTPBasicAuthHandler(passwords), urllib.request.HTTPDigestAuthHandler(passwords))
    return urllib.request.build_opener(*handlers)


form = urllib.parse.urlencode({"grant_type": "client_credentials"}).encode()
with with_password(ID, SECRET).open(f"{ISSUER}/oauth2/token", form) as answer:
    TOKEN = json.load(answer)["access_token"]

BASE = f"{ISSUER}/exchange/crm"
MESSAGES = [{"role": "user", "content": "hello"}]
calls = {
    "openai": lambda key: openai.OpenAI(api_key=key, base_url=f"{BASE}/v1", max_retries=0).models.list(),
    "anthropic": lambda key: anthropic.Anthropic(api_key=key, base_url=BASE, max_retries=0).messages.create(
        model="m", max_tokens=1, messages=MESSAGES
    ),
}
refusals = [
    (TOKEN, 403, "no operation of this upstream has this method and path"),
    ("placeholder", 401, "the token is malformed; get a new one at the token endpoint"),
]
for name, call in calls.items():
    for key, status, sentence in refusals:
        try:
            call(key)
        except (openai.APIStatusError, anthropic.APIStatusError) as error:
            assert error.status_code == status, f"{name}: {error}"
            assert sentence in str(error), f"{name}: {error}"
        else:
            raise AssertionError(f"{name} took a {status} for an answer")

# urllib waits for the challenge, sends the token as a password then, and raises nothing but the refusal itself.
with with_password("agent", TOKEN).open(CONTACTS) as answer:
    assert json.load(answer)["uri"] == "/v1/contacts"
for opener in (urllib.request.build_opener(), with_password("agent", "placeholder")):
    try:
        opener.open(CONTACTS)
        raise AssertionError("a call without a token was answered")
    except urllib.error.HTTPError as error:
        assert error.code == 401, error
