"""An OpenAI chat request → our Request: texts, files in order of appearance, long passages and earlier results as files too."""

from collections.abc import Iterable

from cluster.chat import Message
from cluster.errors import BadFile, BadRequest, NotFound
from cluster.messages import ArtifactRef
from cluster.run_ids import new_run_id
from cluster.settings import Limits
from cluster.tasks import Media
from controller.asking.intake import Intake
from controller.asking.openai_schema import MODEL, MOST_NAMED, AudioPart, ChatMessage, ChatRequest, FilePart, ImagePart, TextPart, shown
from controller.asking.request import Request, RequestFile, artifacts_named, models_named, split_passages
from controller.asking.terms import Terms

PREVIOUS_ANSWER = "previous answer.txt"
INSTRUCTING_ROLES = frozenset({"system", "developer"})  # how the model is to behave: its prompts are fixed here


def read_conversation(body: ChatRequest, terms: Terms, intake: Intake, limits: Limits) -> Request:
    """Blocks while files are stored. Raises BadRequest, BadFile, FileTooLarge or NotFound."""
    if body.model != MODEL:
        raise NotFound(f"the model '{shown(body.model)}' does not exist here; use {MODEL!r}")
    last = body.messages[-1]
    if last.role != "user":
        raise BadRequest("the last message must be the user's")
    earlier = [message for message in body.messages[:-1] if message.role not in INSTRUCTING_ROLES]
    for message in body.messages:
        _check_text(_text(message), limits)
    text, passages = split_passages(_text(last).strip())
    attached = [*_files(earlier, intake), *_files([last], intake)]
    if not text:
        raise BadRequest("the message is empty: say what is to be done" + (" with the files" if attached else ""))
    history = tuple(_message(message) for message in earlier)
    inline = [intake.accept(passage.encode(), f"text {n}.txt") for n, passage in enumerate(passages, 1)]
    refs = dict.fromkeys([*_results(history, intake), *attached, *inline])
    if len(refs) > limits.max_files:
        raise BadRequest(f"the conversation has {len(refs)} files; the limit is {limits.max_files}")
    files = tuple(_request_file(f"f{n}", ref, intake, limits) for n, ref in enumerate(refs, 1))
    named = tuple(dict.fromkeys([*body.named_models, *models_named(text)]))[:MOST_NAMED]
    return Request(new_run_id(), text, files, history, body.models, named, terms)


def _check_text(text: str, limits: Limits) -> None:
    if len(text) > limits.max_message_characters:
        most = limits.max_message_characters
        raise BadRequest(f"a message has {len(text):,} characters; the limit is {most:,}: send a long text as a file")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise BadRequest(f"a message is not valid Unicode at character {exc.start}") from exc


def _request_file(file_id: str, ref: ArtifactRef, intake: Intake, limits: Limits) -> RequestFile:
    text = intake.text(ref)
    if text is not None and len(text) > limits.max_text_characters:
        raise BadFile(f"{ref.name} has {len(text):,} characters; the limit is {limits.max_text_characters:,}")
    return RequestFile(file_id, ref, text)


def _results(history: tuple[Message, ...], intake: Intake) -> list[ArtifactRef]:
    """What earlier answers made, and the last answer's own text, so that «translate that» has something to eat."""
    refs = []
    answers = [message for message in history if message["role"] == "assistant"]
    for sha256 in artifacts_named(answers):
        try:
            refs.append(intake.known(sha256))
        except NotFound:
            continue  # it has expired; the conversation goes on without it
    if answers and answers[-1]["content"].strip():
        refs.append(intake.accept(answers[-1]["content"].encode(), PREVIOUS_ANSWER))
    return refs


def _files(messages: Iterable[ChatMessage], intake: Intake) -> list[ArtifactRef]:
    refs = []
    for message in messages:
        for part in message.content if isinstance(message.content, list) else ():
            match part:
                case ImagePart():
                    refs.append(_image(part.image_url.url, intake))
                case AudioPart():
                    sound = part.input_audio
                    ref = intake.accept_base64(sound.data, f"recording.{sound.format}")
                    if ref.media != Media.AUDIO:
                        raise BadFile(f"input_audio must hold a recording: its bytes are {ref.media_type}")
                    refs.append(ref)
                case FilePart():
                    refs.append(_file(part, intake))
    return refs


def _image(url: str, intake: Intake) -> ArtifactRef:
    if url[:5].lower() == "data:":
        ref = intake.accept_data_url(url, "picture")
        if ref.media != Media.IMAGE:
            raise BadFile(f"an image_url must hold a picture: its bytes are {ref.media_type}")
        return ref
    if "://" in url and "/v1/artifacts/" not in url:
        raise BadFile("addresses on the web are not fetched: send the picture as a data URL, or upload it and give its id")
    return intake.known(url)


def _file(part: FilePart, intake: Intake) -> ArtifactRef:
    body = part.file
    if body.file_id:
        return intake.known(body.file_id)
    if body.file_data:
        name = body.filename or "file"
        is_url = body.file_data.startswith("data:")
        return intake.accept_data_url(body.file_data, name) if is_url else intake.accept_base64(body.file_data, name)
    raise BadFile("a file part needs file_id or file_data")


def _text(message: ChatMessage) -> str:
    if isinstance(message.content, list):
        return "\n".join(part.text for part in message.content if isinstance(part, TextPart))
    return message.content or ""


def _message(message: ChatMessage) -> Message:
    """What another client's tool said is context like the person's own words: an engine need not know tools."""
    return {"role": "assistant" if message.role == "assistant" else "user", "content": _text(message)}
