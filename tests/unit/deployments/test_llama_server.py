"""The way to llama.cpp's server, which may end a connection that it kept open just as the next request comes."""

import asyncio

from deployments.llama_server import client_of

REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def _answers_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says nothing about closing, and hangs up at the second request."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(REPLY)
    await writer.drain()
    await reader.read(1)
    writer.close()
    await writer.wait_closed()


async def test_a_request_after_another_is_answered_also_where_the_server_hangs_up_on_kept_connections() -> None:
    async with await asyncio.start_server(_answers_once, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(10), client_of(f"http://127.0.0.1:{port}") as client:
            assert [(await client.get("/health")).text for _ in range(3)] == ["ok"] * 3
