"""Real replicas and their memory: the budget holds with real networks, and requests go where their model is."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ray import serve

from cluster.catalogue import ModelCard
from cluster.messages import Done, TaskRequest
from cluster.settings import AppSettings, FamilySettings
from cluster.state import ClusterState
from cluster.tasks import Task
from deployments.board import board_application
from deployments.replica import family_deployment

pytestmark = pytest.mark.cluster

VOCABULARY, WIDTH = 24_000, 512  # of float32: an embedding of 49 MB, which is nearly all of the network
MODELS = 3
ROUNDS = 4
SLACK_BYTES = 40_000_000  # what torch and the C heap may keep for themselves; a network that were not freed would show


@contextmanager
def deployed(family: str, settings: AppSettings) -> Iterator[tuple[Any, Any]]:
    """Handles of a family and of its board, in the Ray that runs."""
    board = board_application()
    app = f"memory_{family}"
    bound = family_deployment(family, settings.families[family]).bind(family, settings, board)
    try:
        yield serve.run(bound, name=app, route_prefix=None), serve.get_deployment_handle("board", app_name=app)
    finally:
        serve.delete(app)


def ask(handle: Any, task: Task, model: str, cards: dict[str, ModelCard], text: str) -> Done:
    request = TaskRequest("r", "s1", task, (model,), (text,), {"prompt": "at once"}, 60, cards)
    result = handle.options(multiplexed_model_id=model).run.remote(request).result(timeout_s=90)
    assert isinstance(result, Done), result
    return result


def soon(board: Any, is_so: Callable[[ClusterState], bool]) -> ClusterState:
    """The state, when it is so: replicas tell theirs within a second or two."""
    deadline = time.monotonic() + 20
    while not is_so(state := board.cluster_state.remote().result(timeout_s=10)):
        assert time.monotonic() < deadline, state
        time.sleep(0.2)
    return state


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def pid_of(family: str) -> int:
    import ray
    from ray.util.state import list_actors

    address = ray.get_runtime_context().gcs_address
    (actor,) = [a for a in list_actors(address, filters=[("state", "=", "ALIVE")], limit=1000) if f"#{family}#" in (a.name or "")]
    pid: int = actor.pid
    return pid


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelCard]:
    """Three classifiers of about 50 MB each, as the hub would have them."""
    import torch
    import transformers

    from tests.tiny.text import bert_tokenizer

    cards = {}
    for number in range(MODELS):
        folder = tmp_path_factory.mktemp(f"checkpoint{number}")
        torch.manual_seed(number)
        shape = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 8, "intermediate_size": WIDTH}
        config = transformers.BertConfig(vocab_size=VOCABULARY, num_labels=2, max_position_embeddings=48, **shape)
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
        bert_tokenizer().save_pretrained(folder)
        size_bytes = (folder / "model.safetensors").stat().st_size
        card = ModelCard(
            id=f"test/classifier{number}",
            family="text",
            loader="sequence_classification",
            tasks=(Task.TEXT_CLASSIFICATION,),
            memory_bytes=size_bytes,
            local=folder,
        )
        cards[card.id] = card
    return cards


def test_a_replica_with_room_for_two_models_serves_three_in_turn_within_its_budget(
    fake_service: str, checkpoints: dict[str, ModelCard], tmp_path: Path
) -> None:
    model_bytes = max(card.memory_bytes for card in checkpoints.values())
    budget_bytes = int(model_bytes * 2.5)
    family = FamilySettings(memory_bytes=budget_bytes, deployment={"num_replicas": 1, "ray_actor_options": {"num_cpus": 0.1}})
    settings = AppSettings(artifacts=f"file://{tmp_path}", models=tmp_path, families={"text": family})
    with deployed("text", settings) as (handle, board):
        ids = list(checkpoints)
        first = {model: ask(handle, Task.TEXT_CLASSIFICATION, model, checkpoints, "the text").data for model in ids[:2]}
        both_loaded = soon(board, lambda state: all(state.view(model).loaded_on == 1 for model in ids[:2]))
        (replica,) = both_loaded.replicas
        assert 1.9 * model_bytes < replica.used_bytes <= replica.budget_bytes == budget_bytes
        pid = pid_of("text")
        with_two_bytes = resident_bytes(pid)
        most_resident_bytes, most_used_bytes = 0, 0
        for number in range(ROUNDS * MODELS):
            model = ids[(number + 2) % MODELS]  # always the one that is not there
            result = ask(handle, Task.TEXT_CLASSIFICATION, model, checkpoints, "the text")
            assert result.span.load_s > 0
            if model in first:
                assert result.data == first[model]
            most_resident_bytes = max(most_resident_bytes, resident_bytes(pid))
            (replica,) = board.cluster_state.remote().result(timeout_s=10).replicas
            most_used_bytes = max(most_used_bytes, replica.used_bytes)
        assert most_used_bytes <= budget_bytes
        grown_bytes = most_resident_bytes - with_two_bytes
        print(f"{ROUNDS * MODELS} loads of {model_bytes / 1e6:.0f} MB: the process grew by {grown_bytes / 1e6:.0f} MB")
        assert grown_bytes < SLACK_BYTES
        state = soon(board, lambda state: state.view(ids[(ROUNDS * MODELS + 1) % MODELS]).loaded_on == 1)
        view = state.view(ids[0])
        assert view.run_s is not None and view.load_s is not None and view.load_s > view.run_s > 0


def test_requests_go_to_the_replica_that_has_their_model(fake_service: str, tmp_path: Path) -> None:
    """Two replicas with room for one model each: a request that went to the other one would have to load."""
    cards = {
        f"test/{name}": ModelCard(id=f"test/{name}", family="fake", loader="fake", tasks=(Task.TEXT_GENERATION,), memory_bytes=6)
        for name in ("a", "b")
    }
    family = FamilySettings(memory_bytes=10, deployment={"num_replicas": 2, "ray_actor_options": {"num_cpus": 0.1}})
    settings = AppSettings(artifacts=f"file://{tmp_path}", models=tmp_path, families={"fake": family})
    with deployed("fake", settings) as (handle, board):
        soon(board, lambda state: len(state.replicas) == 2)
        for model in cards:
            ask(handle, Task.TEXT_GENERATION, model, cards, "go")
            soon(board, lambda state, model=model: state.view(model).loaded_on == 1)
            time.sleep(1)  # for Serve's controller to tell the handles
        where = {model: home(board, model) for model in cards}
        assert len(set(where.values())) == 2
        loads_s = [ask(handle, Task.TEXT_GENERATION, model, cards, f"go {n}").span.load_s for n in range(15) for model in cards]
        assert sum(seconds > 0 for seconds in loads_s) == 0
        assert {model: home(board, model) for model in cards} == where


def home(board: Any, model: str) -> str:
    (replica,) = [
        replica.replica
        for replica in board.cluster_state.remote().result(timeout_s=10).replicas
        if any(known.model == model and known.is_loaded for known in replica.models)
    ]
    return str(replica)


def test_a_warm_up_through_the_handle_loads_where_the_step_will_go(fake_service: str, tmp_path: Path) -> None:
    card = ModelCard(id="test/later", family="fake", loader="fake", tasks=(Task.TEXT_GENERATION,), memory_bytes=6)
    family = FamilySettings(memory_bytes=10, deployment={"num_replicas": 2, "ray_actor_options": {"num_cpus": 0.1}})
    settings = AppSettings(artifacts=f"file://{tmp_path}", models=tmp_path, families={"fake": family})
    with deployed("fake", settings) as (handle, board):
        handle.options(multiplexed_model_id=card.id).warm.remote(card.id, card).result(timeout_s=30)
        soon(board, lambda state: state.view(card.id).loaded_on == 1)
        time.sleep(1)
        for number in range(5):
            assert ask(handle, Task.TEXT_GENERATION, card.id, {card.id: card}, f"go {number}").span.load_s == 0
