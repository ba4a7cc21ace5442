"""`hgpt monitor`: Prometheus beside a running service, with the configuration, rules and dashboards of cluster/monitoring, until Ctrl-C."""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml

from cluster.errors import HuggingGPTError
from controller.terminal.client import Client, add_url_option

MONITORING = Path(__file__).parents[2] / "cluster" / "monitoring"
LOOPBACK = "127.0.0.1"
READY_TIMEOUT_S = 60.0
DISCOVERY_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 20.0
MOST_INTERVAL_S = 60  # the alerts' rates over five minutes need some samples
STOPPED_BY_SIGTERM = 143
HOW_TO_GET_IT = (
    "Prometheus is not here: install your system's package `prometheus`, or set HGPT_PROMETHEUS to the program; `make monitor` fetches it"
)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("monitor", help="start Prometheus beside a running service, with its alerts")
    add_url_option(parser)
    parser.add_argument("--port", type=int, default=9090, help="where Prometheus listens, on this machine only (default: 9090)")
    parser.add_argument("--interval", type=_seconds, default=10, metavar="S", help="seconds between two scrapes (default: 10)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where its data stay (default: a folder that goes with it)")
    parser.set_defaults(run=monitor_command)


def monitor_command(args: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED_BY_SIGTERM))  # unwinds, also while Prometheus starts
    with monitoring(args.url, args.port, args.interval, args.data) as (url, prometheus):
        print(f"Prometheus watches {args.url} at {url}; alerts: {url}/alerts; stop with Ctrl-C", flush=True)
        print(f"Grafana's dashboards and provisioning: {MONITORING / 'grafana'}", flush=True)
        try:
            prometheus.wait()
        except KeyboardInterrupt:
            print("stopping", file=sys.stderr)
            return 0
    raise HuggingGPTError(f"Prometheus ended by itself, with status {prometheus.returncode}")


@contextmanager
def monitoring(url: str, port: int, interval_s: int, data: Path | None) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Prometheus' address and process, ready inside the block and ended with it. Raises HuggingGPTError with one sentence."""
    program = prometheus_program()
    discovery = Client(url).monitoring()["ray_service_discovery"]
    if discovery is None:
        raise HuggingGPTError(f"the Ray of {url} has no dashboard, which lists its metrics agents: start Ray with one")
    _check_discovery(discovery)
    _check_port(port)
    with tempfile.TemporaryDirectory(prefix="hgpt-monitor-", ignore_cleanup_errors=True) as folder:
        config = Path(folder) / "prometheus.yml"
        config.write_text(yaml.safe_dump(configuration(url, discovery, interval_s), sort_keys=False), encoding="utf-8")
        storage = data or Path(folder) / "data"
        log = Path(folder) / "log"
        command = [program, f"--config.file={config}", f"--storage.tsdb.path={storage}", f"--web.listen-address={LOOPBACK}:{port}"]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)  # Ctrl-C is for us to pass on
        try:
            address = f"http://{LOOPBACK}:{port}"
            _await_ready(address, process, log)
            yield address, process
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def configuration(url: str, discovery: str, interval_s: int) -> dict[str, Any]:
    """That of cluster/monitoring/prometheus.yml, for the service at `url` and the address where its Ray lists what is to be scraped."""
    config: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": f"{interval_s}s", "evaluation_interval": f"{interval_s}s"}
    config["rule_files"] = [str(MONITORING / name) for name in config["rule_files"]]
    ray, service = config["scrape_configs"]
    ray["http_sd_configs"] = [{"url": discovery, "refresh_interval": f"{interval_s}s"}]
    parts = urlsplit(url)
    service |= {
        "scheme": parts.scheme,
        "metrics_path": f"{parts.path.rstrip('/')}/metrics",
        "static_configs": [{"targets": [parts.netloc]}],
    }
    return config


def prometheus_program() -> str:
    """HGPT_PROMETHEUS, or `prometheus` beside this Python, or on the PATH. Raises HuggingGPTError where there is none."""
    beside = Path(sys.executable).parent / "prometheus"
    named = os.environ.get("HGPT_PROMETHEUS") or (str(beside) if beside.exists() else "prometheus")
    if (found := shutil.which(named)) is None:
        raise HuggingGPTError(HOW_TO_GET_IT)
    return found


def _check_discovery(address: str) -> None:
    """Prometheus itself would scrape no node, and say so only in its log."""
    try:
        httpx.get(address, timeout=DISCOVERY_TIMEOUT_S).raise_for_status().json()
    except httpx.HTTPStatusError as exc:
        reason = f"HTTP {exc.response.status_code}"
    except (httpx.HTTPError, ValueError) as exc:
        reason = str(exc) or type(exc).__name__
    else:
        return
    where = "run this where it does, such as on the head node, or start Ray with --dashboard-host"
    raise HuggingGPTError(f"Ray's dashboard, which lists what is to be scraped, does not answer at {address} ({reason}): {where}")


def _check_port(port: int) -> None:
    with socket.socket() as there:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            there.bind((LOOPBACK, port))
        except (OSError, OverflowError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise HuggingGPTError(f"Prometheus cannot listen on port {port}: {reason}; choose another --port") from exc


def _await_ready(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{address}/-/ready", timeout=5, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)  # another process's readiness: there is nothing to wait on but its answer
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise HuggingGPTError(f"Prometheus did not start: {said[-1][:300] if said else 'it said nothing'}")


def _seconds(text: str) -> int:
    if text.isascii() and text.isdecimal() and 1 <= int(text) <= MOST_INTERVAL_S:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is no whole number of seconds from 1 to {MOST_INTERVAL_S}")
