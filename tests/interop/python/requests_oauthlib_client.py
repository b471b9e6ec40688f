"""requests-oauthlib: client credentials, a brokered call, an error."""

import os

from oauthlib.oauth2 import BackendApplicationClient, InvalidScopeError
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from scene import CONTACTS, ID, ISSUER, SECRET, reached

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # loopback only
endpoint = f"{ISSUER}/oauth2/token"

for arguments in ({"auth": HTTPBasicAuth(ID, SECRET)}, {"client_secret": SECRET, "include_client_id": True}):
    session = OAuth2Session(client=BackendApplicationClient(client_id=ID))
    token = session.fetch_token(endpoint, **arguments)
    assert token["token_type"] == "Bearer" and token["expires_in"] > 0, token
    reached(session.get(CONTACTS))

session = OAuth2Session(client=BackendApplicationClient(client_id=ID, scope=["crm:nothing"]))
try:
    session.fetch_token(endpoint, auth=HTTPBasicAuth(ID, SECRET))
    raise AssertionError("a scope that no role gives was given")
except InvalidScopeError as error:
    assert error.status_code == 400, error
