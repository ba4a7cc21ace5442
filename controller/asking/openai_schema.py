"""The OpenAI forms that the door reads and writes, as far as they concern this service. Pure data."""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cluster.catalogue import HubId
from cluster.errors import HuggingGPTError, Overloaded
from cluster.tasks import Task

MODEL = "hugginggpt"
COMPLETION_PREFIX = "chatcmpl-"  # before a run's id: the id of its completion
LONGEST_LIST = 300  # characters of a refusal that counts up what would have been right
MOST_NAMED = 10  # models in one request
MOST_SEED = 2**63 - 1
LONGEST_USER = 512  # characters of a client's name for its user
SHOWN_CHARACTERS = 80  # of a name that a client sent, in the sentence that refuses it


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # clients send fields of later versions


class TextPart(_Form):
    type: Literal["text"]
    text: str


class ImageUrl(_Form):
    url: str


class ImagePart(_Form):
    type: Literal["image_url"]
    image_url: ImageUrl


class InputAudio(_Form):
    data: str
    format: str = "wav"


class AudioPart(_Form):
    type: Literal["input_audio"]
    input_audio: InputAudio


class FileBody(_Form):
    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None


class FilePart(_Form):
    type: Literal["file"]
    file: FileBody


Part = Annotated[TextPart | ImagePart | AudioPart | FilePart, Field(discriminator="type")]


class ChatMessage(_Form):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None


class _Asked(_Form):
    """What a request may say beside its words. `timeout_s`, ours, is the seconds it may take; `seed` is for tasks that draw."""

    stream: bool = False
    user: str | None = Field(default=None, max_length=LONGEST_USER)
    safety_identifier: str | None = Field(default=None, max_length=LONGEST_USER)  # what OpenAI calls `user` by now
    seed: int | None = Field(default=None, ge=0, le=MOST_SEED)
    timeout_s: float | None = None


class ChatRequest(_Asked):
    """Two more are ours, for a person who wants certain models: `models` by task, `named_models` for whatever step they can do."""

    messages: list[ChatMessage] = Field(min_length=1)
    model: str = MODEL
    models: dict[Task, HubId] = Field(default_factory=dict)
    named_models: list[HubId] = Field(default_factory=list, max_length=MOST_NAMED)


class PlanFile(_Form):
    """A file of a plan: an artifact, under the name that the steps give it."""

    id: str
    sha256: str  # or the id of an upload


class PlanForm(_Form):
    """What POST /v1/plan gave, edited or not; what it gave beside these three is passed over.

    The steps are read by controller/planning/plan_json.py.
    """

    steps: list[Any]
    files: list[PlanFile] = Field(default_factory=list)
    request: str | None = None


class RunRequest(ChatRequest):
    """Either `messages`, as a chat request has them, or a `plan`. `background`: it goes on when nobody waits for it.

    `request`: what the answer to a plan is to say something to, where that is not what the plan was made for.
    """

    messages: list[ChatMessage] = Field(default_factory=list)
    plan: PlanForm | None = None
    request: str | None = None
    reuse: bool = True
    background: bool = False


def completion(run_id: str, text: str, tokens: tuple[int, int], **ours: Any) -> dict[str, Any]:
    """A chat.completion; `ours` are fields beyond the schema, which clients keep or ignore."""
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return {**_head(run_id, "chat.completion"), "choices": [choice], "usage": usage(*tokens), **ours}


def usage(tokens_in: int, tokens_out: int) -> dict[str, int]:
    return {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}


def chunk(run_id: str, delta: Mapping[str, Any], finish_reason: str | None = None, **ours: Any) -> dict[str, Any]:
    """A chat.completion.chunk. With an empty delta and a field of ours it is a progress note that other clients skip."""
    choice = {"index": 0, "delta": dict(delta), "finish_reason": finish_reason, "logprobs": None}
    return {**_head(run_id, "chat.completion.chunk"), "choices": [choice], **ours}


def error(exc: HuggingGPTError) -> dict[str, Any]:
    kind = "invalid_request_error" if exc.status < 500 else "server_error"
    return {"error": {"message": exc.message, "type": kind, "param": None, "code": exc.code}}


def headers_of(exc: HuggingGPTError) -> dict[str, str]:
    return {"retry-after": str(exc.retry_after_s)} if isinstance(exc, Overloaded) else {}


def unreadable(errors: Sequence[Mapping[str, Any]], body: Any) -> str:
    """What is wrong with a body, in its own words and not in those of pydantic, whose errors these are."""
    furthest = max(errors, key=lambda error: len(error["loc"]))  # a union's errors: the branch that came furthest
    place = _place(furthest, body)
    match furthest["type"]:
        case "json_invalid":
            return "the body is not JSON"
        case "missing":
            return f"{place} is missing"
        case "union_tag_not_found":
            return f"{place}.type is missing"
        case "union_tag_invalid":
            return f"{place}.type should be one of {furthest['ctx']['expected_tags']}"
        case "too_short":
            return f"{place} is empty"
        case "model_type" | "model_attributes_type":
            return f"{place} should be a JSON object"
        case "enum" if len(furthest["msg"]) > LONGEST_LIST:
            return f"{place} is none of those that exist; `hgpt models tasks` lists the tasks"
        case "string_pattern_mismatch":
            return f"{place} is no id of a model; they read owner/name"
        case "value_error":  # FastAPI's, where a form has text in the place of a file
            return f"{place} should be a file"
        case _:
            return f"{place} {furthest['msg'].removeprefix('Input ')}"


def shown(name: str) -> str:
    """A name as a refusal can quote it: cut, in one line, without half characters."""
    cut = name if len(name) <= SHOWN_CHARACTERS else name[:SHOWN_CHARACTERS] + "…"
    return repr(cut)[1:-1]


def model_list() -> dict[str, Any]:
    return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "hugginggpt"}]}


def file_object(file_id: str, size_bytes: int, name: str) -> dict[str, Any]:
    return {
        "id": file_id,
        "object": "file",
        "bytes": size_bytes,
        "created_at": int(time.time()),
        "filename": name,
        "purpose": "user_data",
        "status": "processed",
    }


def _place(error: Mapping[str, Any], body: Any) -> str:
    """`messages.0.content`: without the names that pydantic gives to a union's branches, which the body does not have."""
    _, *path = error["loc"]  # FastAPI's first word is «body»
    here = body
    place: list[str] = []
    for depth, part in enumerate(path, 1):
        if (isinstance(here, Mapping) and part in here) or (isinstance(here, list) and isinstance(part, int)):
            here = here[part]
        elif error["type"] != "missing" or depth < len(path):
            continue
        place.append(shown(str(part)))
    return ".".join(place) or "the body"


def _head(run_id: str, kind: str) -> dict[str, Any]:
    return {"id": f"{COMPLETION_PREFIX}{run_id}", "object": kind, "created": int(time.time()), "model": MODEL}
