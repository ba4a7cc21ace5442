"""Cards of models that exist in tests only."""

from cluster.catalogue import ModelCard
from cluster.tasks import TASKS, Task


def card_for(task: Task, loader: str, model_id: str = "tiny/x", memory_bytes: int = 1) -> ModelCard:
    return ModelCard(
        **{"id": model_id, "family": TASKS[task].family, "loader": loader, "tasks": (task,), "licence": "mit"},
        **{"origin": "test", "memory_bytes": memory_bytes, "quality": 0.5, "description": ""},
    )


def fake_card(name: str, size_bytes: int = 1) -> ModelCard:
    """Of a model that the test itself makes."""
    return card_for(Task.SUMMARIZATION, "fake", f"org/{name}", size_bytes)
