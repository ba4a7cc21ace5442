"""The record of a run, as JSON: what was asked, the plan, the models and why, what each step gave and took, the answer, how it ended."""

import json
import time
from enum import StrEnum
from typing import Any

from cluster.errors import HuggingGPTError, RunLost
from cluster.run_ids import began_s
from controller.asking import openai_schema
from controller.asking.request import Request
from controller.execution.run import Run
from controller.runs.json_text import as_json
from controller.runs.run_log import LAST_NUMBER


class Status(StrEnum):
    """As OpenAI's Responses name them."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


def asked(request: Request) -> dict[str, Any]:
    """What a plan is about: with its steps this is all that a later run needs."""
    refs = [(file.id, file.artifact) for file in request.files]
    files = [{"id": file_id, "name": ref.name, "media": ref.media, "sha256": ref.sha256} for file_id, ref in refs]
    return {"request": request.text, "files": files}


def record_of(request: Request, run: Run, status: Status, last_event_id: str, error: HuggingGPTError | None = None) -> dict[str, Any]:
    """Times are Unix seconds. `error` as the answer to the request told it; None where there is none."""
    return {
        "object": "run",
        "status": status,
        "created_at": began_s(run.id),
        "ended_at": None if status is Status.IN_PROGRESS else round(time.time(), 3),
        "request_id": request.terms.request_id,
        **asked(request),
        "answer": run.answer,
        "error": openai_schema.error(error)["error"] if error else None,
        "usage": openai_schema.usage(run.tokens_in, run.tokens_out),
        **run.as_json(),
        "last_event_id": last_event_id,
    }


def encoded(record: dict[str, Any]) -> bytes:
    return as_json(record).encode("utf-8", "replace")


def begun(record: dict[str, Any]) -> bytes:
    """For the store, of a run that goes on; says when it was told."""
    return encoded({**record, "told_at": round(time.time(), 3)})


def goes_on(record: bytes) -> bool:
    """Whether it was written before its run had ended. Reads its beginning alone: records can be long."""
    return record.startswith(_GOES_ON)


def silence_s(record: bytes) -> float:
    """For how long nobody has told that its run goes on."""
    return time.time() - float(json.loads(record)["told_at"])


def lost(record: bytes) -> bytes:
    """The record of a run that nobody tells of any more, from the last one of when it went on. When it ended is not known.

    Its event has the last number that there is, so that whoever has read some of the run gets the end of it.
    """
    told = json.loads(record)
    why = RunLost(
        f"the run {told['id']} was lost: the process that ran it has ended, or the store did not take its end; send the request again"
    )
    return encoded({**told, "status": Status.FAILED, **openai_schema.error(why), "last_event_id": f"{told['id']}-{LAST_NUMBER}"})


_GOES_ON = encoded({"object": "run", "status": Status.IN_PROGRESS}).removesuffix(b"}")
