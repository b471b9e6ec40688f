"""The MCP SDK's client-credentials provider: from a call's URL to a token, by the challenge and the metadata alone."""

import asyncio

import httpx2
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider

from scene import CONTACTS, ID, ISSUER, SECRET, reached


class Memory:
    """The provider's token storage."""

    tokens = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return None

    async def set_client_info(self, client_info):
        raise AssertionError("nobody registers here")


async def main():
    for method in ("client_secret_basic", "client_secret_post"):
        memory = Memory()
        provider = ClientCredentialsOAuthProvider(
            server_url=CONTACTS,
            storage=memory,
            client_id=ID,
            client_secret=SECRET,
            token_endpoint_auth_method=method,
            issuer=ISSUER,
        )
        async with httpx2.AsyncClient(auth=provider) as http:
            answer = await http.get(CONTACTS)
            reached(answer)
            assert memory.tokens.token_type == "Bearer", memory.tokens
            first = memory.tokens.access_token
            reached(await http.get(CONTACTS))
            assert memory.tokens.access_token == first
        urls = [str(one.url) for one in answer.history] + [str(answer.url)]
        assert urls[-1] == CONTACTS, urls


if __name__ == "__main__":
    asyncio.run(main())
