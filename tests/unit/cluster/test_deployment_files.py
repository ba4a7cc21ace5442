"""Every file that an operator starts from is read here as the service would read it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.catalogue import BUILT_IN, Catalogue
from cluster.errors import HuggingGPTError
from cluster.settings import AppSettings, EngineSettings, parse
from cluster.tasks import Family
from controller.app import check_families
from controller.terminal.serve_command import FAST, read_config
from deployments.adapters import adapter_folder
from deployments.replica import family_deployment

ROOT = Path(__file__).parents[3]
L4_BYTES = 24_000_000_000
RAYSERVICE = ROOT / "cluster/k8s/rayservice.yaml"


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


@pytest.fixture
def embedded(tmp_path: Path) -> Path:
    """The Serve config inside the RayService, as a file."""
    path = tmp_path / "serve_config.yaml"
    path.write_text(read("cluster/k8s/rayservice.yaml")["spec"]["serveConfigV2"], encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("path", "names"),
    [("serve_config.yaml", ["llm", "planner", "hugginggpt"]), ("benchmarks/fakes/serve_config.yaml", ["llm", "hugginggpt"])],
)
def test_a_serve_config_holds_only_keys_that_exist(path: str, names: list[str]) -> None:
    assert [application["name"] for application in read_config(ROOT / path).applications] == names


@pytest.mark.parametrize("path", ["serve_config.yaml", "benchmarks/fakes/serve_config.yaml"])
def test_the_controller_asks_the_llms_that_the_same_file_serves(path: str) -> None:
    config = read_config(ROOT / path)
    *llms, app = config.applications
    asked = [app["args"][name]["base_url"] for name in ("llm", "planner_llm") if name in app["args"]]
    assert asked == [f"{config.url}{llm['route_prefix']}/v1" for llm in llms]


def test_a_laptops_planner_wears_an_adapter_that_is_shipped_and_is_shown_no_demonstrations() -> None:
    _, planner, app = read_config(ROOT / "serve_config.yaml").applications
    assert adapter_folder(str(parse(EngineSettings, planner["args"]).adapter)).is_dir()
    assert not parse(AppSettings, app["args"]).planning.demonstrations


def test_a_laptop_binds_loopback_only() -> None:
    assert read_config(ROOT / "serve_config.yaml").host == "127.0.0.1"


def test_every_embedded_model_has_a_family_that_runs_it() -> None:
    families = parse(AppSettings, read_config(ROOT / "serve_config.yaml").applications[-1]["args"]).families
    assert {card.family for card in Catalogue.read(BUILT_IN).cards.values() if card.tasks} <= set(families)


def test_a_laptop_pays_nothing_for_families_that_no_embedded_model_is_of() -> None:
    families = parse(AppSettings, read_config(ROOT / "serve_config.yaml").applications[-1]["args"]).families
    assert set(families) == set(Family)
    embedded = {card.family for card in Catalogue.read(BUILT_IN).cards.values()}
    least = {name: family.deployment["autoscaling_config"]["min_replicas"] for name, family in families.items()}
    assert {name for name, replicas in least.items() if replicas} == embedded


def test_every_embedded_model_fits_into_a_replica_of_its_family() -> None:
    families = parse(AppSettings, read_config(ROOT / "serve_config.yaml").applications[-1]["args"]).families
    for card in Catalogue.read(BUILT_IN).cards.values():
        assert card.memory_bytes <= families[card.family].memory_bytes, card.id


def test_a_family_that_no_card_names_stops_the_start_with_those_there_are() -> None:
    catalogue = Catalogue.read(BUILT_IN)
    check_families(parse(AppSettings, {}), catalogue)
    with pytest.raises(HuggingGPTError, match="no card names the family vison; the families are .*vision"):
        check_families(parse(AppSettings, {"families": {"vison": {}}}), catalogue)


def test_the_kubernetes_service_has_vllm_gpu_families_that_grow_and_artifacts_that_all_nodes_see(embedded: Path) -> None:
    llm, app = read_config(embedded).applications
    engine, settings = parse(EngineSettings, llm["args"]), parse(AppSettings, app["args"])
    assert engine.engine == "vllm"
    assert engine.serves_as == settings.llm.model
    assert settings.artifacts.startswith("s3://")
    assert settings.hub.enabled
    assert set(settings.families) == set(Family)
    for family in settings.families.values():
        assert family.deployment["ray_actor_options"]["num_gpus"] > 0
        assert family.deployment["autoscaling_config"]["max_replicas"] > 1


def test_the_kubernetes_families_that_are_always_there_fit_on_one_card(embedded: Path) -> None:
    settings = parse(AppSettings, read_config(embedded).applications[-1]["args"])
    always = [family for family in settings.families.values() if family.deployment["autoscaling_config"]["min_replicas"]]
    assert sum(family.deployment["ray_actor_options"]["num_gpus"] for family in always) <= 1
    for family in settings.families.values():
        assert family.memory_bytes <= L4_BYTES * family.deployment["ray_actor_options"]["num_gpus"]


def test_every_option_of_a_family_is_one_that_serve_takes(embedded: Path) -> None:
    for path in (embedded, ROOT / "serve_config.yaml", ROOT / "benchmarks/fakes/serve_config.yaml"):
        settings = parse(AppSettings, read_config(path).applications[-1]["args"])
        for name, family in settings.families.items():
            assert family_deployment(name, family).name == name


def test_the_kubernetes_services_llm_settings_are_ones_that_the_vllm_engine_takes(embedded: Path) -> None:
    from deployments.vllm_engine import VllmSettings, llm_options

    settings = parse(EngineSettings, read_config(embedded).applications[0]["args"])
    options = llm_options(
        VllmSettings(settings.serves_as, settings.model, settings.accelerator, engine_kwargs=settings.engine_kwargs, **settings.deployment)
    )
    assert options["accelerator_type"] == "L4"


def test_the_kubernetes_cluster_has_the_gpus_and_the_ray_that_it_needs() -> None:
    cluster = read("cluster/k8s/rayservice.yaml")["spec"]["rayClusterConfig"]
    (workers,) = cluster["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert workers["minReplicas"] >= 2  # the LLM fills one card, the families share another
    import ray

    assert cluster["rayVersion"] == ray.__version__


def test_the_ssh_cluster_passes_rays_own_check() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(read("cluster/nodes/cluster.yaml")))


def test_prometheus_finds_the_nodes_where_a_ray_on_the_same_machine_lists_them() -> None:
    """By its dashboard, or by its file; tests/cluster/test_prometheus.py asks a dashboard that runs."""
    from ray._private.ray_constants import DEFAULT_DASHBOARD_PORT, PROMETHEUS_SERVICE_DISCOVERY_FILE

    ray, _ = read("cluster/monitoring/prometheus.yml")["scrape_configs"]
    (discovery,) = ray["http_sd_configs"]
    assert discovery["url"] == f"http://127.0.0.1:{DEFAULT_DASHBOARD_PORT}/api/prometheus/sd"
    assert PROMETHEUS_SERVICE_DISCOVERY_FILE in (ROOT / "cluster/monitoring/prometheus.yml").read_text(encoding="utf-8")


def test_what_is_deployed_runs_with_the_threads_that_hgpt_serve_sets(embedded: Path) -> None:
    for path in (ROOT / "serve_config.yaml", embedded):
        (app,) = (application for application in read_config(path).applications if application["name"] == "hugginggpt")
        assert app["runtime_env"]["env_vars"] == FAST
