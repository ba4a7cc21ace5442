"""An LLM as a Serve application: `serve_config.yaml` imports `build` from here and mounts it under /llm, and a planner under /planner.

Engines: `llama_cpp` (a laptop), `vllm` (GPUs, through ray.serve.llm), `echo` (no weights: dry runs and benchmarks). For an
external server leave this application out and give its address to the controller as `llm.base_url`.
"""

from collections.abc import Mapping
from typing import Any

from ray.serve import Application

from cluster.errors import HuggingGPTError
from cluster.settings import EngineSettings, parse

MOST_QUEUED = 512  # requests beyond those that are being decoded; the next one is answered with 429, and asked again by its client


def build(args: Mapping[str, Any]) -> Application:
    """Raises HuggingGPTError with one sentence for wrong settings. Engines are imported only when chosen."""
    settings = parse(EngineSettings, args)
    if settings.adapter and settings.engine != "llama_cpp":
        raise HuggingGPTError(
            f"the engine {settings.engine} takes no `adapter`: serve it with vLLM's own server, and name that in planner_llm"
        )
    match settings.engine:
        case "llama_cpp":
            from deployments.llama_server import LlamaServer

            return _bound(LlamaServer, settings, settings)
        case "vllm":
            from deployments.vllm_engine import VllmSettings, build_vllm

            return build_vllm(
                VllmSettings(
                    model_id=settings.serves_as,
                    model_source=settings.model,
                    accelerator=settings.accelerator,
                    engine_kwargs=settings.engine_kwargs,
                    **settings.deployment,
                )
            )
        case "echo":
            from deployments.fakes import EchoLanguageModel

            return _bound(EchoLanguageModel, settings, settings.serves_as)


def _bound(deployment: Any, settings: EngineSettings, argument: object) -> Application:
    """mypy takes a class decorated by Ray for the class itself, which has no `options`."""
    queue = {"max_queued_requests": MOST_QUEUED, "backpressure_config": {"status_code": 429, "retry_after_s": 1}}
    application: Application = deployment.options(**{**queue, **settings.deployment}).bind(argument)
    return application
