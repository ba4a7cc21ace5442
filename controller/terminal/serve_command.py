"""`hgpt serve`: the whole service on this machine, from serve_config.yaml, on loopback, until Ctrl-C. Starts Ray and stops only that."""

import argparse
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import yaml
from pydantic import BaseModel

from cluster.errors import HuggingGPTError
from cluster.settings import AppSettings, EngineSettings, parse

CONFIG = Path("serve_config.yaml")
LOOPBACK = "127.0.0.1"
STOPPED_BY_SIGTERM = 143
BROKEN = 500  # HTTP status of a fault that waiting does not mend
READY_TIMEOUT_S = 600.0  # a first start also downloads the models
# One event loop for a replica's own work, its router and our code, and fewer writes of Serve's access log: less than the default, which
# keeps code that blocks from holding up health checks; here models compute in threads of their own. serve_config.yaml says the same.
FAST = {
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
    "RAY_SERVE_LOG_TO_STDERR": "0",
}
SETTINGS: dict[str, type[BaseModel]] = {"controller.app": AppSettings, "deployments.llm": EngineSettings}


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """What serve_config.yaml holds, as far as starting it here needs."""

    host: str
    port: int
    request_timeout_s: float
    applications: tuple[dict[str, Any], ...]

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK if self.host == '0.0.0.0' else self.host}:{self.port}"  # noqa: S104 - compared only


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("serve", help="start the whole service on this machine")
    parser.add_argument("--config", type=Path, default=CONFIG, help="a Serve config file (default: serve_config.yaml)")
    parser.set_defaults(run=serve_command)


def serve_command(args: argparse.Namespace) -> int:
    config = read_config(args.config)
    with running(config):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED_BY_SIGTERM))  # after Ray, which sets its own; unwinds and stops it
        print(f"ready at {config.url}; stop with Ctrl-C", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopping", file=sys.stderr)
    return 0


def read_config(path: Path) -> ServiceConfig:
    """Raises HuggingGPTError with one sentence for a missing file or a wrong key."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        applications = tuple(dict(application) for application in raw["applications"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc).replace("\n", " ")
        raise HuggingGPTError(f"{path} cannot be read: {reason}") from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise HuggingGPTError(f"{path} is no Serve config: it needs a list of applications") from exc
    for application in applications:
        if kind := SETTINGS.get(str(application.get("import_path", "")).partition(":")[0]):
            parse(kind, application.get("args") or {})
    http = raw.get("http_options") or {}
    try:
        port, timeout_s = int(http.get("port", 8000)), float(http.get("request_timeout_s", 1800))
        return ServiceConfig(str(http.get("host", LOOPBACK)), port, timeout_s, applications)
    except (AttributeError, TypeError, ValueError) as exc:
        raise HuggingGPTError(f"{path}: http_options needs a host, a port and a request_timeout_s: {exc}") from exc


@contextmanager
def running(config: ServiceConfig) -> Iterator[None]:
    """The service, ready inside the block. A Ray of its own, with its own folder, is started and stopped."""
    if _answers(config.url):
        raise HuggingGPTError(f"something already listens at {config.url}; stop it or choose another port")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # this Ray listens on loopback only
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # Ray 2.60 would replace 127.0.0.1 by the machine's address
    for name, value in FAST.items():
        os.environ.setdefault(name, value)
    import ray
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # its news of a good start would stand between ours
    with tempfile.TemporaryDirectory(prefix="hgpt-", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local",
            include_dashboard=True,
            _node_ip_address=LOOPBACK,
            _temp_dir=folder,
            log_to_driver=False,
            configure_logging=False,
            namespace="serve",
        )
        try:
            http = {"host": config.host, "port": config.port, "request_timeout_s": config.request_timeout_s}
            serve.start(http_options=http)
            _deploy(config, Path(folder))
            yield
        finally:
            # Ray 2.60 calls it a failed task when the Serve controller ends itself, and says so.
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
                serve.shutdown()  # type: ignore[no-untyped-call]
                ray.shutdown()


def _deploy(config: ServiceConfig, folder: Path) -> None:
    from ray import serve

    try:
        serve.run_many([_target(application) for application in config.applications])
    except RuntimeError as exc:
        logs = folder / "session_latest" / "logs" / "serve"
        raise HuggingGPTError(f"{exc} {_last_error(logs)}") from exc
    _await_health(config.url)


def _last_error(logs: Path) -> str:
    """The last line of the controller's log that names an exception: what Serve leaves out of its own message."""
    lines = [line for log in logs.glob("controller_*.log") for line in log.read_text(errors="replace").splitlines()]
    return next((line.strip() for line in reversed(lines) if re.match(r"^[\w.]*(Error|Exception|Unavailable|Corrupt)\b", line)), "")


def _target(application: dict[str, Any]) -> Any:
    from ray.serve import RunTarget

    module, _, name = str(application["import_path"]).partition(":")
    target = getattr(import_module(module), name)(application.get("args") or {})
    return RunTarget(target=target, name=application["name"], route_prefix=application.get("route_prefix", "/"))


def _await_health(url: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    reason = "nothing"
    while time.monotonic() < deadline:
        try:
            reply = httpx.get(f"{url}/healthz", timeout=READY_TIMEOUT_S)
            if reply.is_success:
                return
            reason = reply.text[:200]
            if reply.status_code == BROKEN:
                break
        except httpx.HTTPError as exc:
            reason = str(exc)
        time.sleep(0.5)  # another process's readiness: there is nothing to wait on but its answer
    raise HuggingGPTError(f"the service did not become ready: {reason}")


def _answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=1)
    except httpx.HTTPError:
        return False
    return True
