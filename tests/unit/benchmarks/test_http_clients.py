"""The clients who never pause: what they count, and what they call wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web

from benchmarks.http_clients import Order, asked, percentile

ORDER = Order("", '{"go": 1}', "right", clients=3, warm_up_s=0.0, seconds=0.2)


@asynccontextmanager
async def answering(text: str, status: int = 200) -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Cache-Control"] == "no-store"
        assert await request.json() == {"go": 1}
        await asyncio.sleep(0.001)
        return web.Response(text=text, status=status)

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_percentile_is_one_of_the_values(share: float, value: int) -> None:
    assert percentile([*range(100, 0, -1)], share) == value


def test_the_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7.0


async def test_right_replies_are_timed() -> None:
    async with answering("all right") as url:
        seen = await asked(replace(ORDER, url=url))
    assert seen.wrong == 0
    assert len(seen.latencies_s) >= 3
    assert min(seen.latencies_s) >= 0.001


@pytest.mark.parametrize(("text", "status"), [("something else", 200), ("all right", 500)])
async def test_another_text_or_status_is_wrong_and_not_timed(text: str, status: int) -> None:
    async with answering(text, status) as url:
        seen = await asked(replace(ORDER, url=url))
    assert (seen.wrong, seen.latencies_s) == (3, [])
    assert seen.example == f"HTTP {status}: {text}"


async def test_nobody_there_is_wrong() -> None:
    seen = await asked(replace(ORDER, url="http://127.0.0.1:9/"))
    assert seen.wrong == 3
    assert "9" in seen.example


async def test_what_is_answered_while_warming_up_is_not_counted() -> None:
    async with answering("all right") as url:
        seen = await asked(replace(ORDER, url=url, warm_up_s=10.0, seconds=-9.9))
    assert (seen.wrong, seen.latencies_s) == (0, [])
