"""Authlib: client credentials by Basic and in the body, a brokered call, introspection, revocation."""

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session

from scene import CONTACTS, ID, ISSUER, SECRET, reached

server = requests.get(f"{ISSUER}/.well-known/oauth-authorization-server", timeout=10).json()
assert server["issuer"] == ISSUER, server

for method in ("client_secret_basic", "client_secret_post"):
    assert method in server["token_endpoint_auth_methods_supported"]
    session = OAuth2Session(
        ID, SECRET, scope="crm:contacts.read", token_endpoint_auth_method=method, revocation_endpoint_auth_method=method
    )
    token = session.fetch_token(server["token_endpoint"], grant_type="client_credentials")
    assert (token["token_type"], token["scope"]) == ("Bearer", "crm:contacts.read"), token
    reached(session.get(CONTACTS))
    about = session.introspect_token(server["introspection_endpoint"], token=token["access_token"]).json()
    assert about["active"] is True and about["client_id"] == ID, about
    answer = session.revoke_token(server["revocation_endpoint"], token=token["access_token"])
    assert answer.status_code == 200, answer.text
    about = session.introspect_token(server["introspection_endpoint"], token=token["access_token"]).json()
    assert about == {"active": False}, about
    assert session.get(CONTACTS).status_code == 401

# The library asks for the next token by itself when one has run out.
session = OAuth2Session(
    ID, SECRET, token_endpoint=server["token_endpoint"], grant_type="client_credentials", leeway=100_000
)
first = session.fetch_token()["access_token"]
reached(session.get(CONTACTS))
assert session.token["access_token"] != first

try:
    OAuth2Session(ID, "wrong").fetch_token(server["token_endpoint"], grant_type="client_credentials")
    raise AssertionError("a wrong secret was let in")
except OAuthError as error:
    assert error.error == "invalid_client", error
