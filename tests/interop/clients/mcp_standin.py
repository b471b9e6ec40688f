"""An MCP server, made with the MCP SDK, that lets nobody in without its key.

    python mcp_standin.py SECRET      prints its URL
"""

import asyncio
import socket
import sys

import uvicorn
from mcp.server import MCPServer

SECRET = sys.argv[1]
server = MCPServer("tools")


@server.tool()
def add(a: int, b: int) -> str:
    """Adds two numbers."""
    return str(a + b)


def locked(app):
    """Lets only the key through: a token of the broker in its place is refused."""

    async def inner(scope, receive, send):
        if scope["type"] == "http" and dict(scope["headers"]).get(b"authorization") != f"Bearer {SECRET}".encode():
            await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
            return await send({"type": "http.response.body", "body": b""})
        await app(scope, receive, send)

    return inner


async def main():
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    app = locked(server.streamable_http_app(streamable_http_path="/mcp"))
    await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listener])


asyncio.run(main())
