"""build(args): the only file that knows every part. `serve_config.yaml` imports it."""

from collections.abc import Mapping
from typing import Any

from ray.serve import Application

from cluster.settings import AppSettings, parse
from controller.ingress import Ingress
from deployments.replica import family_deployment


def build(args: Mapping[str, Any]) -> Application:
    """The application behind the HTTP door: the ingress and one deployment per family. Raises HuggingGPTError for wrong settings."""
    settings = parse(AppSettings, args)
    families = {name: family_deployment(name, family, settings).bind(settings) for name, family in settings.families.items()}
    ingress: Any = Ingress  # serve.deployment is untyped
    application: Application = ingress.options(**settings.ingress).bind(settings, families)
    return application
