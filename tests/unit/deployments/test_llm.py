"""What an operator may ask of the controller LLM's engines: a setting that one cannot follow stops the start with one sentence."""

import pytest

from cluster.errors import HuggingGPTError
from deployments.llm import build


@pytest.mark.parametrize("engine", ["vllm", "echo"])
def test_an_adapter_that_the_engine_would_pass_over_is_refused(engine: str) -> None:
    with pytest.raises(HuggingGPTError, match=f"the engine {engine} takes no `adapter`"):
        build({"engine": engine, "model": "org/m", "adapter": "planner-0.5b"})
