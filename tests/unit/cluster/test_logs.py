"""Log lines: what is said for a request can be found by its id, wherever it is said."""

import asyncio
import logging

from cluster.logs import _WithFields, as_request_id, said_for


def line(message: str, **fields: str) -> str:
    record = logging.makeLogRecord({"msg": message, "levelname": "INFO", **fields})
    return _WithFields("%(levelname)s %(message)s").format(record)


async def said(request_id: str) -> str:
    with said_for(request_id, "run"):
        await asyncio.sleep(0)
        return await asyncio.to_thread(line, "loaded", model="org/m")


async def test_every_line_has_the_id_of_its_request_also_in_threads_and_beside_other_requests() -> None:
    lines = await asyncio.gather(said("first"), said("second"))
    assert lines == [f"INFO loaded request_id={name} run_id=run model=org/m" for name in ("first", "second")]
    assert line("started") == "INFO started request_id=-"


def test_an_id_that_a_client_gives_cannot_write_log_lines() -> None:
    assert as_request_id("a b\r\nINFO forged\x1b[31m é") == "abINFOforged[31m"
    assert len(as_request_id("x" * 1000)) == 128
