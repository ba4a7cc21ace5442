"""How many users at once, and how long do they wait? Locust's users against the HTTP door, for a bounded time and count.

Without --url the service is started here on fake models; with it, a running service is asked with real requests.
Locust runs in a process of its own: it replaces Python's sockets by gevent's, and Ray would not survive that.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.fakes import fake_service
from benchmarks.measure import arguments, report

LOCUSTFILE = Path(__file__).with_name("load_users.py")
MAX_USERS = 500
MAX_SECONDS = 600
STOP_TIMEOUT_S = 60
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--url", type=_loopback, help="a running service on this machine (default: start one on fake models)")
    parser.add_argument("--users", type=int, choices=range(1, MAX_USERS + 1), metavar=f"1..{MAX_USERS}", default=20)
    parser.add_argument("--seconds", type=int, choices=range(1, MAX_SECONDS + 1), metavar=f"1..{MAX_SECONDS}", default=20)
    args = parser.parse_args()
    if args.url:
        figures = loaded(args.url, "RealUser", args.users, args.seconds)
    else:
        with fake_service() as url:
            figures = loaded(url, "FakeUser", args.users, args.seconds)
    report({"users": args.users, **figures}, args.out)
    if figures["failures"]:
        sys.exit(f"{figures['failures']:.0f} requests failed")


def loaded(url: str, user: str, users: int, seconds: int) -> dict[str, float]:
    """The figures of one Locust run over all kinds of requests."""
    with tempfile.TemporaryDirectory(prefix="hgpt-load-") as folder:
        file = Path(folder) / "figures.json"
        command = [sys.executable, str(LOCUSTFILE), url, user, str(users), str(seconds), str(file)]
        subprocess.run(command, check=True, timeout=seconds + STOP_TIMEOUT_S + 30)
        figures: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
    return figures


def _loopback(url: str) -> str:
    if urlsplit(url).hostname not in LOOPBACK:
        raise argparse.ArgumentTypeError(f"{url} is not on this machine; load is only put on a service of one's own")
    return url.rstrip("/")


if __name__ == "__main__":
    main()
