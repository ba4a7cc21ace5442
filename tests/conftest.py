"""What holds for every test."""

import os
import signal

# Here, because Ray reads some of them when it is imported, which test modules of every folder do.
os.environ["RAY_AUTH_MODE"] = "disabled"  # Ray 2.60 would make and want a token
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else Ray 2.60 replaces 127.0.0.1 by the machine's address
os.environ["RAY_metrics_report_interval_ms"] = "1000"  # noqa: SIM112 - Ray's spelling; its own 10 s is long to wait for


def pytest_configure() -> None:
    """A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start would ignore it too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
