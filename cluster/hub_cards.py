"""From what the hub says about a repository to a pinned model card, or to one sentence why the model cannot run here."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from huggingface_hub import ModelInfo
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from pydantic import ValidationError

from cluster.catalogue import ModelCard, ModelFile
from cluster.errors import ModelError, ModelUnavailable, NotFound
from cluster.hub_files import (
    INDEX,
    components,
    diffusers_files,
    has_pickles,
    has_safetensors,
    has_weights,
    matching,
    pinned,
    transformers_files,
)
from cluster.hub_line import HubLine, first_line
from cluster.hub_models import RUNNABLE_LIBRARIES, HubModel, hub_tags, info_of, library_of, task_of
from cluster.hub_notes import Note, notes, snapshot
from cluster.tasks import TASKS, Task

BASE = "base"  # the folder of another repository's files
NOT_QUANTIZED = frozenset({None, "none"})
CONVERTER = "SFconvertbot"  # the hub's own account that offers safetensors of pickled weights as a pull request
CONVERSION = "Adding `safetensors` variant of this model"


class Pinner:
    """Asks one hub. Every method blocks."""

    def __init__(self, line: HubLine, licences: Sequence[str] = ()) -> None:
        self._line = line
        self._licences = licences

    def card(self, model_id: str, task: Task | None, commit: str | None = None) -> ModelCard:
        """Pinned at `commit`, or at what main is now. Raises HubSilent, NotFound, or ModelUnavailable with the reason."""
        note = notes().get(model_id)
        info = self._loadable(self._info(model_id, commit), note)
        task = task or _only_task(info, note)
        refuse_another_task(info, task, note)
        self._refuse_licence(HubModel.of(info, task))
        if info.gated:
            self._require_access(model_id)
        files = self._files(info, note)
        if note is not None and note.base is not None:
            files += self._base_files(note.base)
        return _card(info, task, files)

    def _info(self, model_id: str, commit: str | None = None) -> ModelInfo:
        path = f"/api/models/{model_id}" + (f"/revision/{quote(commit, safe='')}" if commit else "")
        try:
            return info_of(self._line.get(path, {"blobs": True}).json())
        except GatedRepoError as exc:
            raise self._closed(model_id) from exc
        except RepositoryNotFoundError as exc:
            raise NotFound(f"the hub has no model {model_id} that is open to you; check the id's spelling and capitals") from exc
        except HfHubHTTPError as exc:
            raise ModelUnavailable(f"the hub does not show {model_id} ({first_line(exc)})") from exc
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise ModelUnavailable(f"what {self._line.endpoint} says about {model_id} is no answer of a hub") from exc

    def _loadable(self, info: ModelInfo, note: Note | None) -> ModelInfo:
        """The repository, or, where it has pickles only, the commit with the same weights as safetensors that the hub's bot offers.

        transformers does the same. Of anybody else's pull requests nothing is taken.
        """
        names = [sibling.rfilename for sibling in info.siblings or ()]
        if has_safetensors(names) or not has_pickles(names) or (note is not None and note.files):
            return info
        query = {"author": CONVERTER, "type": "pull_request", "status": "open"}
        try:
            offers = self._line.get(f"/api/models/{info.id}/discussions", query).json()["discussions"]
            number = next(int(o["num"]) for o in offers if o["title"] == CONVERSION and o["author"]["name"] == CONVERTER)
            offered = self._info(info.id, f"refs/pr/{number}")
        except (HfHubHTTPError, ModelError, StopIteration, ValueError, KeyError, TypeError):
            return info
        offered.gated, offered.pipeline_tag = info.gated, info.pipeline_tag
        return offered

    def _require_access(self, model_id: str) -> None:
        if self._line.token is None:
            raise self._closed(model_id)
        try:
            self._line.get(f"/api/models/{model_id}/auth-check")
        except HfHubHTTPError as exc:
            raise self._closed(model_id) from exc

    def _closed(self, model_id: str) -> ModelUnavailable:
        place, name = f"{self._line.endpoint}/{model_id}", self._line.token_env
        if self._line.token is None:
            return ModelUnavailable(f"{model_id} is gated: accept its terms at {place} and set {name} to a token of your account")
        return ModelUnavailable(f"{model_id} is gated and the token in {name} has no access: accept its terms at {place}")

    def _refuse_licence(self, model: HubModel) -> None:
        if self._licences and model.licence not in self._licences:
            allowed = ", ".join(self._licences)
            raise ModelUnavailable(f"{model.id} has the licence {model.licence or 'unknown'}; allowed here are {allowed}")

    def _files(self, info: ModelInfo, note: Note | None) -> list[ModelFile]:
        """The files of one repository, pinned. Raises ModelUnavailable when no runner here can open what they make."""
        names = [sibling.rfilename for sibling in info.siblings or ()]
        library = (note.library if note else None) or library_of(info)
        if note is not None and note.files:
            chosen = matching(names, note.files)
        elif INDEX in names:
            chosen = self._pipeline_files(info, names)
        else:
            refuse_unrunnable(info, library, names)
            chosen = transformers_files(names)
        if not has_weights(chosen):
            raise _without_safetensors(info.id, names)
        wanted = set(chosen)
        try:
            return [pinned(sibling) for sibling in info.siblings or () if sibling.rfilename in wanted]
        except ValidationError as exc:
            raise ModelUnavailable(f"{info.id} has a file that is not taken: {_reason(exc)}") from exc

    def _pipeline_files(self, info: ModelInfo, names: Sequence[str]) -> list[str]:
        index = self._json(info, INDEX)
        kind = index.get("_class_name")
        own_code = {f"{name}/{library}.py" for name, library in components(index).items()}
        if not isinstance(kind, str) or own_code & set(names):
            raise ModelUnavailable(f"{info.id} is a pipeline with code of its own, which is not run here")
        chosen, lacking = diffusers_files(names, index)
        if lacking:
            raise ModelUnavailable(
                f"{info.id} has no safetensors of its {lacking[0]}, only pickles, which may run code when they are loaded"
            )
        return chosen

    def _json(self, info: ModelInfo, name: str) -> Mapping[str, Any]:
        try:
            content = self._line.get(f"/{info.id}/resolve/{info.sha}/{name}").json()
        except HfHubHTTPError as exc:
            raise ModelUnavailable(f"{name} of {info.id} cannot be read ({first_line(exc)})") from exc
        except ValueError as exc:
            raise ModelUnavailable(f"{name} of {info.id} is no JSON") from exc
        if not isinstance(content, dict):
            raise ModelUnavailable(f"{name} of {info.id} is no JSON object")
        return content

    def _base_files(self, model_id: str) -> list[ModelFile]:
        info = self._info(model_id)
        if info.gated:
            self._require_access(model_id)
        return [
            file.model_copy(update={"path": f"{BASE}/{file.path}", "hub_path": file.path, "hub_id": info.id, "hub_revision": info.sha})
            for file in self._files(info, notes().get(model_id))
        ]


def refuse_another_task(info: ModelInfo, task: Task, note: Note | None) -> None:
    """A model without a tag, one that the notes name, and the table's own model of the task are believed; their runner looks closer."""
    allowed = hub_tags(task)
    if info.pipeline_tag in (None, *allowed) or TASKS[task].default_model == info.id or (note is not None and task in note.tasks):
        return
    if set(info.tags or ()) & set(allowed):
        return
    raise ModelUnavailable(f"{info.id} is a model for {info.pipeline_tag}, not for {task}")


def refuse_unrunnable(info: ModelInfo, library: str | None, names: Sequence[str]) -> None:
    """A library that no runner uses, weights that are quantised for another one, code that the repository brings along."""
    config = info.config if isinstance(info.config, dict) else {}
    if library is not None and library not in RUNNABLE_LIBRARIES:
        raise ModelUnavailable(f"{info.id} is made for the library {library}; here run models of {', '.join(sorted(RUNNABLE_LIBRARIES))}")
    if "config.json" not in names:
        raise ModelUnavailable(f"{info.id} has no config.json and no {INDEX}, so nothing here knows how to open it")
    quantisation = config.get("quantization_config")
    method = quantisation.get("quant_method") if isinstance(quantisation, dict) else None
    if method not in NOT_QUANTIZED:
        raise ModelUnavailable(f"{info.id} is quantised with {method}, which the runners here do not read; take the unquantised model")
    if "auto_map" in config and not is_in_transformers(config.get("model_type")):
        raise ModelUnavailable(f"{info.id} needs code of its own repository (auto_map), which is never run here")


def is_in_transformers(model_type: object) -> bool:
    """Whether the installed library has the architecture. Looked up by its folder: importing transformers takes seconds."""
    spec = importlib.util.find_spec("transformers")
    if not isinstance(model_type, str) or not model_type or spec is None or spec.origin is None:
        return False
    return (Path(spec.origin).parent / "models" / model_type.replace("-", "_")).is_dir()


def _only_task(info: ModelInfo, note: Note | None) -> Task:
    if task := task_of(info.pipeline_tag):
        return task
    if note is not None:
        return note.tasks[0]
    tag = f"the tag {info.pipeline_tag}, which is no task here" if info.pipeline_tag else "no task tag"
    raise ModelUnavailable(f"{info.id} has {tag}; name the task that it is to do")


def _without_safetensors(model_id: str, names: Sequence[str]) -> ModelUnavailable:
    if has_safetensors(names):
        return ModelUnavailable(f"{model_id} has safetensors, but not under a name that transformers or diffusers loads")
    if has_pickles(names):
        return ModelUnavailable(f"{model_id} has no safetensors; its weights are pickles, which may run code when they are loaded")
    return ModelUnavailable(f"{model_id} has no safetensors, so there are no weights that can be loaded here")


def _card(info: ModelInfo, task: Task, files: Sequence[ModelFile]) -> ModelCard:
    model = HubModel.of(info, task)
    known = next((entry.description for entry in snapshot() if entry.id == info.id), "")
    entry = {
        "id": info.id,
        "revision": info.sha,
        "tasks": (task,),
        "languages": model.reads,
        "licence": model.licence or "unknown",
        "origin": f"the Hugging Face hub, {info.id.partition('/')[0]}",
        "description": known or f"{task} model of the hub, {model.downloads} downloads a month, {model.likes} likes",
        "files": tuple(files),
    }
    try:
        return ModelCard.model_validate(entry)
    except ValidationError as exc:
        raise ModelError(f"{info.id} makes no model card: {_reason(exc)}") from exc


def _reason(exc: ValidationError) -> str:
    """Our own sentence where there is one; the library's say nothing to a person."""
    error = exc.errors()[0]
    if error["type"] == "value_error":
        return error["msg"].removeprefix("Value error, ")
    return f"the hub gives no usable {' '.join(map(str, error['loc']))}"
