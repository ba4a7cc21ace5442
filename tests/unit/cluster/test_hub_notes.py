"""What is shipped about the hub: the snapshot, the notes and the cards without files."""

from cluster.hub_files import PICKLES
from cluster.hub_models import write_lines
from cluster.hub_notes import SNAPSHOT, cards, noted_for, notes, snapshot
from cluster.tasks import TASKS, Task
from deployments.registry import LOADERS

LEAST = 450  # models of the paper's that still run


def test_every_line_of_the_snapshot_is_a_model_of_a_task_of_the_table() -> None:
    lines = SNAPSHOT.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(snapshot()) >= LEAST
    assert "".join(f"{line}\n" for line in lines) == write_lines(snapshot())
    assert {model.task for model in snapshot()} <= set(TASKS)


def test_every_task_has_a_model_in_the_snapshot_its_default_among_them() -> None:
    known = {(model.id, model.task) for model in snapshot()}
    assert {spec.default_model for spec in TASKS.values() if (spec.default_model, spec.task) not in known} == set()


def test_the_snapshot_names_nothing_twice_and_nothing_that_cannot_run() -> None:
    assert len({(model.id, model.task) for model in snapshot()}) == len(snapshot())
    assert [model.id for model in snapshot() if not model.might_run] == []
    assert [model.id for model in snapshot() if model.id.count("/") != 1] == []


def test_what_the_notes_name_is_in_the_snapshot_too() -> None:
    known = {(model.id, model.task) for model in snapshot()}
    assert {(note.id, task) for note in notes().values() for task in note.tasks} - known == set()


def test_every_controlnet_of_the_table_has_its_base() -> None:
    controlled = [spec for spec in TASKS.values() if spec.runner == "controlnet"]
    assert len(controlled) == 8
    assert {notes()[spec.default_model].base for spec in controlled} == {"stable-diffusion-v1-5/stable-diffusion-v1-5"}


def test_a_pickle_of_plain_tensors_is_taken_only_by_its_full_name() -> None:
    named = [pattern for note in notes().values() for pattern in note.files if any(pattern.endswith(suffix) for suffix in PICKLES)]
    assert named == ["ControlNetHED.pth"]


def test_edges_and_lines_need_no_weights() -> None:
    for task, loader in ((Task.CANNY_CONTROL, "canny"), (Task.MLSD_CONTROL, "line_segments")):
        card = cards().card(TASKS[task].default_model)
        assert (card.family, card.loader, card.has_files) == ("vision", loader, False)
        assert card.loader in LOADERS
        assert noted_for(task) == (card.id,)
