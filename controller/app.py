"""build(args): joins the controller with the deployments. `serve_config.yaml` imports it."""

from collections.abc import Mapping
from typing import Any

from ray.serve import Application

from cluster.catalogue import Catalogue
from cluster.errors import HuggingGPTError
from cluster.hub import Hub
from cluster.settings import AppSettings, parse
from cluster.tasks import Family
from controller.door.ingress import Ingress
from deployments.board import board_application
from deployments.replica import family_deployment


def build(args: Mapping[str, Any]) -> Application:
    """The application behind the HTTP door: the ingress, one deployment per family, and the board where replicas tell their state.

    Raises HuggingGPTError for wrong settings.
    """
    settings = parse(AppSettings, args)
    check_families(settings, Catalogue.of(settings))
    if settings.hub.enabled:
        Hub(settings.hub)  # asks nobody; refuses an endpoint that is no address
    board = board_application()
    most_steps = settings.limits.max_runs_in_flight * settings.limits.max_run_steps  # of all runs that are let in
    families = {
        name: family_deployment(name, family, max_queued_requests=most_steps).bind(name, settings, board)
        for name, family in settings.families.items()
    }
    ingress: Any = Ingress  # serve.deployment is untyped
    # Beyond what the door answers, or refuses with the time that it computes: Serve's own refusal, which knows no better.
    queue = {"max_queued_requests": 4 * settings.limits.max_runs_in_flight, "backpressure_config": {"status_code": 429, "retry_after_s": 5}}
    application: Application = ingress.options(**{**queue, **settings.ingress}).bind(settings, families, board)
    return application


def check_families(settings: AppSettings, catalogue: Catalogue) -> None:
    """A family is one of the task table's or one that a card names; any other name is a slip of the pen, and its replicas would idle."""
    known = {*Family, *(card.family for card in catalogue.cards.values())}
    if unknown := sorted(set(settings.families) - known):
        raise HuggingGPTError(f"no card names the family {', '.join(unknown)}; the families are {', '.join(sorted(known))}")
