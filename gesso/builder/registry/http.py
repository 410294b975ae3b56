"""HTTP client for registries: TLS, retries of transient failures, and authentication where required.

Supports Basic authentication and Bearer tokens of a token service.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from gesso.builder.registry import credentials
from gesso.builder.registry.reference import HUB, Reference
from gesso.errors import PublishError
from gesso.redact import redact_urls
from gesso.retry import TRIES, Clock, backoff

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

TIMEOUT = (10, 60)  # seconds to connect, to read
CHECK_NETWORK = "check the registry's name, its TLS certificate and this machine's network and proxy"
RETRY_LATER = "wait a moment, then retry: it continues where it stopped"
_PARAMETER = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class _CaAdapter(HTTPAdapter):
    """Verifies certificates against a given SSL context."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options, ssl_context=self._context)


@dataclass
class HttpClient:
    """The connection to one registry. Everything raises PublishError, with the next step."""

    host: str
    base: str
    login: credentials.Login
    session: requests.Session = field(repr=False)
    clock: Clock = field(default_factory=Clock)
    tries: int = TRIES
    writes: bool = False  # request push access from the start: on Docker Hub only that can read a new repository
    _tokens: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def for_registry(
        cls, reference: Reference, env: Mapping[str, str], clock: Clock | None = None, *, writes: bool = False
    ) -> HttpClient:
        """Create a client for a reference's registry: https, or on loopback http where there is no TLS."""
        session = requests.Session()
        session.mount("https://", _CaAdapter(credentials.ssl_context(reference.host)))
        session.auth = no_auth
        host = f"registry-1.{HUB}" if reference.host == HUB else reference.host
        login = credentials.find(reference.host, env)
        found = cls(reference.host, f"https://{host}", login, session, clock or Clock(), writes=writes)
        if reference.is_loopback and not found._speaks_tls():
            found.base = f"http://{host}"
        return found

    @property
    def is_plain(self) -> bool:
        """True where there is no TLS."""
        return self.base.startswith("http:")

    def request(self, method: str, path: str, *, missing: bool = False, **options: Any) -> requests.Response | None:
        """Send a request and return the response; None for a 404 with `missing`."""
        response = self._send(method, path, options)
        if response.status_code == 401:
            self._authenticate(response, path)
            response = self._send(method, path, options)
        if response.status_code == 404 and missing:
            return None
        if not response.ok:
            raise self._error(response, path)
        return response

    def _speaks_tls(self) -> bool:
        try:
            self.session.get(f"{self.base}/v2/", timeout=TIMEOUT, allow_redirects=False)
        except requests.exceptions.SSLError as error:
            return "CERTIFICATE_VERIFY_FAILED" in str(error)  # it does, with an untrusted certificate
        except requests.RequestException:
            return False
        return True

    def _send(self, method: str, path: str, options: Mapping[str, Any]) -> requests.Response:
        """Send a request; retry transient failures of the network or the registry."""
        token = self._tokens.get(self._scope(path, method)) or self._tokens.get("")
        headers = {**options.get("headers", {}), **({"Authorization": token} if token else {})}
        arguments = {"timeout": TIMEOUT, **options, "headers": headers}
        for wait in backoff(self.tries):
            try:
                response = self.session.request(method, self.base + path, **arguments)
            except requests.RequestException as error:
                if not _is_transient(error):
                    break
                self.clock.sleep(wait)
            else:
                if response.status_code < 500 and response.status_code != 429:
                    return response
                self.clock.sleep(max(wait, _retry_after(response)))
        try:
            return self.session.request(method, self.base + path, **arguments)
        except requests.RequestException as error:
            raise PublishError(f"registry {self.host} cannot be reached: {reason_of(error)}", CHECK_NETWORK) from None

    def _authenticate(self, response: requests.Response, path: str) -> None:
        """Answer a challenge: with user name and password, or with a token from the token service."""
        challenge = response.headers.get("WWW-Authenticate", "")
        kind, parameters = challenge.partition(" ")[0].lower(), dict(_PARAMETER.findall(challenge))
        if kind == "basic" and self.login.user:
            request = requests.Request("GET", self.base, auth=(self.login.user, self.login.password)).prepare()
            self._tokens[""] = request.headers["Authorization"]
        elif kind == "bearer":
            scope = self._scope(path, str(response.request.method))
            self._tokens[scope] = f"Bearer {self._token({**parameters, 'scope': scope}, path)}"
        else:
            raise self._error(response, path)

    def _scope(self, path: str, method: str) -> str:
        actions = "pull,push" if self.writes or method == "PUT" else "pull"
        return f"repository:{_repository(path)}:{actions}"

    def _token(self, parameters: Mapping[str, str], path: str) -> str:
        realm = parameters.get("realm", "")
        if urlsplit(realm).scheme != "https" and not self.is_plain:
            raise PublishError(
                f"registry {self.host} requests the login without TLS, at {redact_urls(realm)[:80]!r}",
                "do not trust it",
            )
        query = {key: parameters[key] for key in ("service", "scope") if key in parameters}
        try:
            if self.login.identity:
                token = {"grant_type": "refresh_token", "refresh_token": self.login.identity, "client_id": "gesso"}
                response = self.session.post(realm, data={**query, **token}, timeout=TIMEOUT)
            else:
                user = (self.login.user, self.login.password) if self.login else no_auth
                response = self.session.get(realm, params=query, auth=user, timeout=TIMEOUT)
        except requests.RequestException as error:
            raise PublishError(
                f"the token service of {self.host} cannot be reached: {reason_of(error)}", CHECK_NETWORK
            ) from None
        if not response.ok:
            raise self._error(response, path)
        data = json_of(response)
        return str(data.get("token") or data.get("access_token") or "")

    def _error(self, response: requests.Response, path: str) -> PublishError:
        where = f"{self.host}/{_repository(path)}"
        if response.status_code not in (401, 403):
            return PublishError(
                f"{where}: the registry responded with HTTP {response.status_code}: {_error_text(response)}",
                RETRY_LATER,
            )
        if not self.login:
            what = f"{where}: the registry requires a login, and Docker has none for it: {_error_text(response)}"
            return PublishError(what, f"`docker login {self.host}`, then retry")
        what = f"{where}: the registry refuses {self.login.user or 'the token'}: {_error_text(response)}"
        return PublishError(what, f"`docker login {self.host}` with an account or token that has access")


def json_of(response: requests.Response) -> dict[str, Any]:
    """Return the JSON object of a response.

    Raises PublishError where it is not one.
    """
    try:
        found = response.json()
    except requests.exceptions.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise PublishError(f"{redact_urls(response.url)}: not a registry's response", CHECK_NETWORK)
    return found


def reason_of(error: requests.RequestException) -> str:
    """Return the root cause of a chain of errors, in a few words."""
    text = redact_urls(str(error.args[0] if error.args else error))
    known = {
        "NameResolution": "no such host", "CERTIFICATE_VERIFY_FAILED": "its certificate is not trusted",
        "refused": "connection refused", "timed out": "timed out",
    }  # fmt: skip
    return next((reason for word, reason in known.items() if word in text), f"{type(error).__name__}: {text[-120:]}")


def no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Send a request without a login: requests would read one from .netrc."""
    return request


def _repository(path: str) -> str:
    return re.split(r"/(?:manifests|blobs|tags)/", path.removeprefix("/v2/"))[0]


def _error_text(response: requests.Response) -> str:
    """Return the registry's own error message."""
    try:
        errors = response.json().get("errors") or [response.json()]
        text = "; ".join(str(e.get("message") or e.get("details") or e.get("code") or "") for e in errors)
    except (ValueError, AttributeError, TypeError):
        text = ""
    return redact_urls(text or response.reason or f"status {response.status_code}")[:200]


def _is_transient(error: requests.RequestException) -> bool:
    """Check whether a retry may help; it does not for an unknown host or a bad certificate."""
    permanent = ("NameResolutionError", "CERTIFICATE_VERIFY", "Invalid URL")
    return not any(word in str(error) for word in permanent)


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return min(float(value), 60.0) if value.isdigit() else 0.0
