"""The MCP SDK through the broker: the server's URL is the broker's, and the agent's token goes where the server's would."""
import asyncio
import os

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


async def main():
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {os.environ['TOKEN']}"})
    async with http, Client(streamable_http_client(f"{os.environ['BROKER']}/exchange/tools", http_client=http)) as client:
        print([tool.name for tool in (await client.list_tools()).tools])
        print((await client.call_tool("add", {"a": 40, "b": 2})).content[0].text)


asyncio.run(main())
