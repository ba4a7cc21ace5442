"""The cluster's state as Prometheus reads it."""

from prometheus_client.parser import text_string_to_metric_families

from cluster.state import ClusterState, ModelState, ReplicaState
from controller.watching.exporter import GAUGES, exposition


def replica(name: str, family: str, node: str, *models: ModelState, used_bytes: int = 0) -> ReplicaState:
    return ReplicaState(name, family, node, 100, used_bytes, models)


STATE = ClusterState(
    (
        replica("app#text#zz", "text", "n1", ModelState("org/a", True, in_flight=2), ModelState("org/b", False), used_bytes=7),
        replica("app#text#aa", "text", "n2", ModelState("org/a", True, is_set_aside=True), used_bytes=90),
        replica("app#vision#x", "vision", "n2"),
    )
)


def samples(state: ClusterState, *, is_told: bool = True) -> dict[str, float]:
    text = exposition(state, ["speech", "text", "vision"], is_told=is_told).decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[" ".join([sample.name, *sample.labels.values()])] = sample.value
    return found


def test_replicas_models_and_memory_are_told_by_family() -> None:
    found = samples(STATE)
    assert {name.split()[0] for name in found} == set(GAUGES)
    assert (found["hgpt_board_up"], found["hgpt_nodes"]) == (1, 2)
    assert (found["hgpt_replicas text"], found["hgpt_replicas vision"], found["hgpt_replicas speech"]) == (2, 1, 0)
    assert (found["hgpt_models_loaded text"], found["hgpt_models_set_aside text"], found["hgpt_steps_in_flight text"]) == (2, 1, 2)
    assert (found["hgpt_replica_memory_bytes text 0"], found["hgpt_replica_memory_bytes text 1"]) == (90, 7)
    assert found["hgpt_replica_memory_budget_bytes vision 0"] == 100


def test_no_id_of_a_replica_or_model_is_in_it() -> None:
    assert "#" not in exposition(STATE, ["text"], is_told=True).decode().replace("# ", "")
    assert b"org/" not in exposition(STATE, ["text"], is_told=True)


def test_replicas_that_are_replaced_leave_their_numbers() -> None:
    others = ClusterState((replica("app#text#new", "text", "n1"), replica("app#text#newer", "text", "n1"), replica("v", "vision", "n1")))
    assert samples(others).keys() == samples(STATE).keys()


def test_a_board_that_does_not_answer_is_told_and_nothing_is_made_up() -> None:
    assert samples(ClusterState(), is_told=False) == {"hgpt_board_up": 0}
