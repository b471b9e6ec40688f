"""Authlib, and the MCP SDK's provider: clients that prove themselves by a key (RFC 7523)."""

import asyncio
import json
import os
import subprocess

import httpx2
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey
from mcp.client.auth.extensions.client_credentials import PrivateKeyJWTOAuthProvider, SignedJWTParameters

from mcp_client import Memory
from scene import CONTACTS, ISSUER, reached

pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
key = ECKey.import_key(pem)
with open("jwks.json", "w", encoding="utf-8") as file:
    json.dump({"keys": [key.as_dict(private=False)]}, file)
register = ["agent", "register", "signer", "--role", "support", "--jwks", "jwks.json", "--no-secret", "--json"]
agent = json.loads(subprocess.run([os.environ["HALLPASS"], *register], check=True, capture_output=True).stdout)
client_id = agent["client_id"]


def authlib():
    # The audience of an assertion is the issuer alone; the library's default is the token endpoint.
    session = OAuth2Session(client_id, key, token_endpoint_auth_method="private_key_jwt")
    session.register_client_auth_method(PrivateKeyJWT(ISSUER, alg="ES256"))
    token = session.fetch_token(f"{ISSUER}/oauth2/token", grant_type="client_credentials")
    assert token["token_type"] == "Bearer", token
    reached(session.get(CONTACTS))


async def mcp():
    signed = SignedJWTParameters(
        issuer=client_id, subject=client_id, signing_key=pem, signing_algorithm="ES256", lifetime_seconds=60
    )
    provider = PrivateKeyJWTOAuthProvider(
        server_url=CONTACTS,
        storage=Memory(),
        client_id=client_id,
        assertion_provider=signed.create_assertion_provider(),
        issuer=ISSUER,
    )
    async with httpx2.AsyncClient(auth=provider) as http:
        reached(await http.get(CONTACTS))


authlib()
asyncio.run(mcp())
