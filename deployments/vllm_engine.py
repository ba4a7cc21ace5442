"""The engine `vllm` of the controller LLM: a `ray.serve.llm` application that speaks the OpenAI API.

Turns settings into that application and knows nothing of plans, prompts or who asks. Mounted under the route prefix `/llm` it
answers at `http://HOST:8000/llm/v1`. Only `build_vllm` imports vLLM, and only when it is called.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cluster.errors import ModelUnavailable

if TYPE_CHECKING:
    from ray.serve import Application

CPU: Final = "cpu"
CPU_KV_CACHE_BYTES = 1 << 30  # unset, vLLM would take half of the machine's memory
CPU_HEALTH_CHECK_TIMEOUT_S = 60.0  # a long prefill keeps every core, and Ray's 10 s would then kill the replica
INGRESS_CPUS = 0.1  # the ingress only passes requests on; Ray's default reserves a whole core for it

# The engine may write nothing but the schema's own characters: a small model can otherwise fill its reply with blanks.
STRUCTURED_OUTPUTS: Final[Mapping[str, object]] = {"backend": "xgrammar", "disable_any_whitespace": True}


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """What an operator chooses. `engine_kwargs` are vLLM's own engine arguments and win over what this file would set."""

    model_id: str  # what clients call it
    model_source: str  # a hub id, or a folder that exists on every node that may run a replica
    accelerator: str | None = None  # "cpu", one of Ray's accelerator types ("L4", "A100", "H100", …), or None: any GPU
    tensor_parallel_size: int = 1  # GPUs (or CPU bundles) that share one copy of the weights
    min_replicas: int = 1  # 0 lets an idle model leave its GPU; the next request then waits for the whole start
    max_replicas: int = 1
    target_requests_per_replica: int = 16  # in flight; Ray's own target is 1e9, which never adds a replica
    engine_kwargs: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tensor_parallel_size < 1:
            raise ValueError(f"tensor_parallel_size is {self.tensor_parallel_size}; it must be 1 or more")
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            raise ValueError(
                f"min_replicas is {self.min_replicas} and max_replicas {self.max_replicas}; "
                "they must satisfy 0 <= min_replicas <= max_replicas and 1 <= max_replicas"
            )


# A production controller on one 24 GB card: 16 GB of bfloat16 weights leave about 5 GB for the KV cache, 144 KiB a token, so
# two requests of full length or a dozen plans at once. On an A100: accelerator="A100", max_model_len 32768.
QWEN3_8B_ON_L4 = VllmSettings(
    model_id="Qwen/Qwen3-8B",
    model_source="Qwen/Qwen3-8B",
    accelerator="L4",
    max_replicas=4,
    engine_kwargs={
        "dtype": "bfloat16",
        "max_model_len": 16_384,
        "gpu_memory_utilization": 0.92,
        # The plan's JSON must be the whole reply; Qwen3 thinks aloud first unless its chat template is told not to.
        "default_chat_template_kwargs": {"enable_thinking": False},
    },
)


def build_vllm(settings: VllmSettings) -> "Application":
    """The application to hand to Serve. Ray must be running: `ray.serve.llm` reads the runtime environment while it builds.

    Raises ModelUnavailable where vLLM is not installed.
    """
    try:
        from ray.serve.llm import LLMConfig, build_openai_app

        return build_openai_app(
            {
                "llm_configs": [LLMConfig.model_validate(llm_options(settings))],
                "ingress_deployment_config": {"ray_actor_options": {"num_cpus": INGRESS_CPUS}},
            }
        )
    except ModuleNotFoundError as exc:
        raise ModelUnavailable(
            f"the engine 'vllm' needs the package {exc.name!r}, which is not installed here: install ray[llm] on a GPU node, "
            "the pins of cluster/constraints-vllm.txt on a CPU, choose the engine 'llama_cpp', or leave the application out and set "
            "llm.base_url"
        ) from exc


def llm_options(settings: VllmSettings) -> dict[str, object]:
    """The fields of `ray.serve.llm.LLMConfig`, as plain data."""
    on_cpu = settings.accelerator == CPU
    return {
        "model_loading_config": {"model_id": settings.model_id, "model_source": settings.model_source},
        "accelerator_type": None if on_cpu else settings.accelerator,
        "accelerator_config": {"kind": "cpu" if on_cpu else "gpu"},
        "deployment_config": _deployment_options(settings, on_cpu),
        "engine_kwargs": _engine_defaults(on_cpu) | {"tensor_parallel_size": settings.tensor_parallel_size} | dict(settings.engine_kwargs),
    }


def _deployment_options(settings: VllmSettings, on_cpu: bool) -> dict[str, object]:
    scaling = {
        "min_replicas": settings.min_replicas,
        "max_replicas": settings.max_replicas,
        "target_ongoing_requests": settings.target_requests_per_replica,
    }
    return {"autoscaling_config": scaling} | ({"health_check_timeout_s": CPU_HEALTH_CHECK_TIMEOUT_S} if on_cpu else {})


def _engine_defaults(on_cpu: bool) -> dict[str, object]:
    structured: dict[str, object] = {"structured_outputs_config": dict(STRUCTURED_OUTPUTS)}
    if not on_cpu:
        return structured
    return structured | {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": CPU_KV_CACHE_BYTES}
