"""How many users at once, and how long do they wait? Locust's users against the HTTP door, for a bounded time and count.

A mix of real requests, some of them with files, against the service that runs at --url; where none answers there, the one of --config is
started for as long as it lasts. With --fakes the service on fake models is started and asked for plans that only sleep.
Locust runs in a process of its own: it replaces Python's sockets by gevent's, and Ray would not survive that.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks import samples
from benchmarks.fakes import fake_service
from benchmarks.measure import arguments, report
from benchmarks.service import service
from controller.terminal.client import DEFAULT_URL
from controller.terminal.serve_command import CONFIG

LOCUSTFILE = Path(__file__).with_name("load_users.py")
REPORT = "report.html"  # as load_users.py names it
MAX_USERS = 500
MAX_SECONDS = 600
STOP_TIMEOUT_S = 300  # a request that was begun is waited for
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--url", type=_loopback, default=DEFAULT_URL, help=f"a service on this machine (default: {DEFAULT_URL})")
    parser.add_argument("--config", type=Path, default=CONFIG, help="what is started where nothing answers at --url")
    parser.add_argument("--fakes", action="store_true", help="start the service on fake models instead")
    parser.add_argument("--users", type=int, choices=range(1, MAX_USERS + 1), metavar=f"1..{MAX_USERS}", default=4)
    parser.add_argument("--seconds", type=int, choices=range(1, MAX_SECONDS + 1), metavar=f"1..{MAX_SECONDS}", default=120)
    parser.add_argument("--report", type=Path, help="write Locust's HTML report here")
    args = parser.parse_args()
    with _asked(args) as url, tempfile.TemporaryDirectory(prefix="hgpt-load-") as folder:
        figures = loaded(url, "FakeUser" if args.fakes else "RealUser", args.users, args.seconds, Path(folder))
        if args.report:
            args.report.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(folder) / REPORT, args.report)
    report({"users": args.users, **figures}, args.out)
    if figures["failures"]:
        sys.exit(f"{figures['failures']:.0f} requests failed")


def loaded(url: str, user: str, users: int, seconds: int, folder: Path) -> dict[str, float]:
    """The figures of one Locust run over all kinds of requests; in `folder` lies Locust's report afterwards."""
    sent = {"photograph": samples.photograph("coffee.png"), "recording": samples.recording("beckett.wav"), "text": samples.SPEECH}
    (folder / "files.json").write_text(json.dumps({name: str(path) for name, path in sent.items()}), encoding="utf-8")
    command = [sys.executable, str(LOCUSTFILE), url, user, str(users), str(seconds), str(folder)]
    subprocess.run(command, check=True, timeout=seconds + STOP_TIMEOUT_S + 30)
    figures: dict[str, float] = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    return figures


@contextmanager
def _asked(args: argparse.Namespace) -> Iterator[str]:
    if args.fakes:
        with fake_service() as url:
            yield url
        return
    with service(args.url if _is_there(args.url) else None, args.config) as url:
        yield url


def _is_there(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=60).is_success
    except httpx.HTTPError:
        return False


def _loopback(url: str) -> str:
    if urlsplit(url).hostname not in LOOPBACK:
        raise argparse.ArgumentTypeError(f"{url} is not on this machine; load is only put on a service of one's own")
    return url.rstrip("/")


if __name__ == "__main__":
    main()
