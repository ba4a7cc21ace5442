"""Bodies are bounded: each alone and all together, whatever their clients declare."""

import asyncio
import json
from typing import Any

from controller.door.body_limit import BodyLimit

Messages = list[dict[str, Any]]


async def reads_all(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def sent(limit: BodyLimit, *chunks: bytes, declares: int | None = None) -> tuple[int, dict[bytes, bytes], dict[str, Any]]:
    """Status, headers and body of the answer."""
    waiting = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    waiting[-1]["more_body"] = False
    answer: Messages = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return waiting.pop(0)

    async def send(message: Any) -> None:
        answer.append(message)

    headers = [] if declares is None else [(b"content-length", str(declares).encode())]
    await limit({"type": "http", "headers": headers}, receive, send)
    return answer[0]["status"], dict(answer[0]["headers"]), json.loads(answer[1]["body"])


def a_limit(app: Any = reads_all, max_bytes: int = 100, in_flight: int = 250) -> BodyLimit:
    return BodyLimit(app, max_bytes, in_flight, lambda: 7)


async def test_a_body_beyond_the_limit_is_413_declared_or_not() -> None:
    assert (await sent(a_limit(), b"x" * 101, declares=101))[0] == 413
    assert (await sent(a_limit(), b"x" * 60, b"x" * 60))[0] == 413
    assert (await sent(a_limit(), b"x" * 100, declares=100))[0] == 200


async def test_bodies_that_would_be_too_much_together_are_429_with_a_time_and_the_others_are_answered() -> None:
    for declares in (100, None):
        answers = await asyncio.gather(*(sent(a_limit_, b"x" * 50, b"x" * 50, declares=declares) for a_limit_ in [a_limit()] * 5))
        statuses = [status for status, _, _ in answers]
        assert set(statuses) == {200, 429} and statuses.count(200) >= 2
        refused = next(answer for answer in answers if answer[0] == 429)
        assert refused[1][b"retry-after"] == b"7" and refused[2]["error"]["code"] == "overloaded"


async def test_what_is_only_declared_takes_no_room() -> None:
    limit, silent = a_limit(), asyncio.Event()

    async def nothing_yet() -> dict[str, Any]:
        await silent.wait()
        return {"type": "http.disconnect"}

    async def nobody(_message: Any) -> None: ...

    scope = {"type": "http", "headers": [(b"content-length", b"100")]}
    async with asyncio.TaskGroup() as clients:
        for _ in range(5):
            clients.create_task(limit(scope, nothing_yet, nobody))
        await asyncio.sleep(0)
        assert (await sent(limit, b"x" * 100, declares=100))[0] == 200
        silent.set()


async def test_what_was_answered_makes_room_also_when_it_failed() -> None:
    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ZeroDivisionError

    limit = a_limit(breaks, in_flight=100)
    for _ in range(3):
        try:
            await sent(limit, b"x" * 100, declares=100)
        except ZeroDivisionError:
            continue
        raise AssertionError("the application's own error must come through")
    assert limit._in_flight_bytes == 0
