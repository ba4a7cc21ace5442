"""The line to the hub: one request with a limit of its own, and a hub that does not answer is left alone for a while. Knows no models."""

import os
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import constants, get_session
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from cluster.errors import HuggingGPTError

HUB_TOKEN_ENV = "HF_TOKEN"  # noqa: S105 - the name of a variable
HUB_CONNECT_TIMEOUT_S = 2.0
# A hub that did not answer is asked again only after this long: huggingface_hub itself retries for 23 s per file.
HUB_REST_S = 300.0
TOO_MANY_REQUESTS = 429
BUSY = 500  # this status and those above it

_asleep_until_s: dict[str, float] = {}  # per process and hub endpoint, on the monotonic clock


class HubSilent(Exception):
    """The hub gave no usable answer. Never leaves the code that asks the hub."""


class HubLine:
    """One hub, and who asks it. Every method blocks."""

    def __init__(self, endpoint: str | None, token_env: str, timeout_s: float) -> None:
        """Raises HuggingGPTError for an endpoint that is no address."""
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        if not _is_address(self.endpoint):
            raise HuggingGPTError(f"{self.endpoint} is no address of a hub; it reads https://host")
        self.token_env = token_env
        self._timeout_s = timeout_s

    @property
    def token(self) -> str | None:
        """The environment's token; None: the one that `hf auth login` has saved, if there is one."""
        return os.environ.get(self.token_env) or None

    @property
    def headers(self) -> dict[str, str]:
        return build_hf_headers(token=self.token)

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> httpx2.Response:
        """One GET, not repeated: HfApi.list_models waits without an end and repeats for 23 s.

        Raises HubSilent, or the hub library's HfHubHTTPError (RepositoryNotFoundError, GatedRepoError, …) when the hub refuses.
        """
        require_awake(self.endpoint)
        if constants.is_offline_mode():
            raise HubSilent("HF_HUB_OFFLINE is set")
        try:
            response = self._answer(path, params)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as exc:
            self.rest()
            raise HubSilent(f"{self.endpoint} does not answer ({first_line(exc)})") from exc
        if response.status_code == TOO_MANY_REQUESTS:
            self.rest()
        if response.status_code == TOO_MANY_REQUESTS or response.status_code >= BUSY:
            raise HubSilent(f"{self.endpoint} answers with status {response.status_code}")
        hf_raise_for_status(response)
        return response

    def _answer(self, path: str, params: Mapping[str, Any] | None) -> httpx2.Response:
        """Whole within the limit: the library's own holds for each piece only, and a hub may send a byte a second."""
        deadline_s = time.monotonic() + self._timeout_s
        pieces = []
        asked = get_session().stream(
            "GET", f"{self.endpoint}{path}", params=params, headers=self.headers, timeout=self._timeout_s, follow_redirects=True
        )
        with asked as response:
            for piece in response.iter_raw():
                pieces.append(piece)
                if time.monotonic() > deadline_s:
                    raise TimeoutError(f"not done after {self._timeout_s:g} s")
        return httpx2.Response(response.status_code, headers=response.headers, content=b"".join(pieces), request=response.request)

    def rest(self) -> None:
        _asleep_until_s[self.endpoint] = time.monotonic() + HUB_REST_S


def require_awake(endpoint: str) -> None:
    """Raises HubSilent while the hub is left alone."""
    if time.monotonic() < _asleep_until_s.get(endpoint, 0.0):
        raise HubSilent(f"{endpoint} did not answer a moment ago")


def require_reachable(endpoint: str) -> None:
    """Asks the hub for any answer within 2 s. Raises HubSilent; a silent hub is not asked again for five minutes."""
    require_awake(endpoint)
    try:
        get_session().head(endpoint, timeout=HUB_CONNECT_TIMEOUT_S)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as exc:
        _asleep_until_s[endpoint] = time.monotonic() + HUB_REST_S
        raise HubSilent(f"{endpoint} does not answer ({first_line(exc)})") from exc


def _is_address(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no port, no IPv6 address
        return False


def first_line(exc: Exception) -> str:
    lines = [line for line in str(exc).splitlines() if line.strip()]
    return lines[0] if lines else type(exc).__name__
