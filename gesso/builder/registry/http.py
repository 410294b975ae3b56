"""How a registry is asked: over TLS, again where it failed for the moment, and with a login where it wants one.

It knows both ways in: Basic, and the Bearer token that a service of its own gives.
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
from gesso.proc import redact
from gesso.retry import TRIES, Clock, waits

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

TIMEOUT = (10, 60)  # seconds to connect, between two bytes of an answer
CHECK = "check the registry's name, its TLS certificate and this machine's network and proxy"
LATER = "wait a moment, then run this again: it goes on where it was"
_PARAMETER = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class _Trusting(HTTPAdapter):
    """Connections that are held against a given set of CAs."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options, ssl_context=self._context)


@dataclass
class Wire:
    """The way to one registry. Everything raises PublishError, with the next step."""

    host: str
    base: str
    login: credentials.Login
    session: requests.Session = field(repr=False)
    clock: Clock = field(default_factory=Clock)
    tries: int = TRIES
    writes: bool = False  # ask for the right to push from the start: Docker Hub lets nobody else read a new repository
    _tokens: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def to(
        cls, reference: Reference, env: Mapping[str, str], clock: Clock | None = None, *, writes: bool = False
    ) -> Wire:
        """Find the way to a reference's registry: https, or on this machine what answers there."""
        session = requests.Session()
        session.mount("https://", _Trusting(credentials.trust(reference.host)))
        session.auth = nobody
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

    def ask(self, method: str, path: str, *, missing: bool = False, **options: Any) -> requests.Response | None:
        """Send a request and give the answer; None for a 404 where something may be `missing`."""
        answer = self._send(method, path, options)
        if answer.status_code == 401:
            self._enter(answer, path)
            answer = self._send(method, path, options)
        if answer.status_code == 404 and missing:
            return None
        if not answer.ok:
            raise self._refused(answer, path)
        return answer

    def _speaks_tls(self) -> bool:
        try:
            self.session.get(f"{self.base}/v2/", timeout=TIMEOUT, allow_redirects=False)
        except requests.exceptions.SSLError as error:
            return "CERTIFICATE_VERIFY_FAILED" in str(error)  # it does, and its certificate is the trouble
        except requests.RequestException:
            return False
        return True

    def _send(self, method: str, path: str, options: Mapping[str, Any]) -> requests.Response:
        """Send once, and again where the network or the registry failed for the moment."""
        token = self._tokens.get(self._scope(path, method)) or self._tokens.get("")
        headers = {**options.get("headers", {}), **({"Authorization": token} if token else {})}
        words = {"timeout": TIMEOUT, **options, "headers": headers}
        for wait in waits(self.tries):
            try:
                answer = self.session.request(method, self.base + path, **words)
            except requests.RequestException as error:
                if not _passes(error):
                    break
                self.clock.sleep(wait)
            else:
                if answer.status_code < 500 and answer.status_code != 429:
                    return answer
                self.clock.sleep(max(wait, _asked_to_wait(answer)))
        try:
            return self.session.request(method, self.base + path, **words)
        except requests.RequestException as error:
            raise PublishError(f"registry {self.host} is out of reach: {why(error)}", CHECK) from None

    def _enter(self, answer: requests.Response, path: str) -> None:
        """Answer a challenge: with name and password, or with a token that a service gives for them."""
        challenge = answer.headers.get("WWW-Authenticate", "")
        kind, parameters = challenge.partition(" ")[0].lower(), dict(_PARAMETER.findall(challenge))
        if kind == "basic" and self.login.user:
            request = requests.Request("GET", self.base, auth=(self.login.user, self.login.password)).prepare()
            self._tokens[""] = request.headers["Authorization"]
        elif kind == "bearer":
            scope = self._scope(path, str(answer.request.method))
            self._tokens[scope] = f"Bearer {self._token({**parameters, 'scope': scope}, path)}"
        else:
            raise self._refused(answer, path)

    def _scope(self, path: str, method: str) -> str:
        actions = "pull,push" if self.writes or method == "PUT" else "pull"
        return f"repository:{_repository(path)}:{actions}"

    def _token(self, parameters: Mapping[str, str], path: str) -> str:
        realm = parameters.get("realm", "")
        if urlsplit(realm).scheme != "https" and not self.is_plain:
            raise PublishError(f"registry {self.host} sends logins to {redact(realm)[:80]!r}", "do not trust it")
        asked = {key: parameters[key] for key in ("service", "scope") if key in parameters}
        try:
            if self.login.identity:
                token = {"grant_type": "refresh_token", "refresh_token": self.login.identity, "client_id": "gesso"}
                answer = self.session.post(realm, data={**asked, **token}, timeout=TIMEOUT)
            else:
                user = (self.login.user, self.login.password) if self.login else nobody
                answer = self.session.get(realm, params=asked, auth=user, timeout=TIMEOUT)
        except requests.RequestException as error:
            raise PublishError(f"the login service of {self.host} is out of reach: {why(error)}", CHECK) from None
        if not answer.ok:
            raise self._refused(answer, path)
        said = json_of(answer)
        return str(said.get("token") or said.get("access_token") or "")

    def _refused(self, answer: requests.Response, path: str) -> PublishError:
        where = f"{self.host}/{_repository(path)}"
        if answer.status_code not in (401, 403):
            return PublishError(f"{where}: the registry answers {answer.status_code}: {_said(answer)}", LATER)
        if not self.login:
            what = f"{where}: the registry wants a login, and Docker has none for it: {_said(answer)}"
            return PublishError(what, f"`docker login {self.host}`, then run this again")
        what = f"{where}: the registry refuses {self.login.user or 'the token'}: {_said(answer)}"
        return PublishError(what, f"`docker login {self.host}` with an account or token that may use it")


def json_of(answer: requests.Response) -> dict[str, Any]:
    """Give the mapping that an answer is.

    Raises PublishError where it is none.
    """
    try:
        found = answer.json()
    except requests.exceptions.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise PublishError(f"{redact(answer.url)}: no answer of a registry", CHECK)
    return found


def why(error: requests.RequestException) -> str:
    """Give the reason that lies at the bottom of a chain of errors, in few words."""
    text = redact(str(error.args[0] if error.args else error))
    known = {
        "NameResolution": "no such host", "CERTIFICATE_VERIFY_FAILED": "its certificate is not trusted",
        "refused": "connection refused", "timed out": "no answer",
    }  # fmt: skip
    return next((said for word, said in known.items() if word in text), f"{type(error).__name__}: {text[-120:]}")


def nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Send a request with no login at all: requests would look for one in .netrc."""
    return request


def _repository(path: str) -> str:
    return re.split(r"/(?:manifests|blobs|tags)/", path.removeprefix("/v2/"))[0]


def _said(answer: requests.Response) -> str:
    """Give what a registry says of its refusal, in its own words."""
    try:
        errors = answer.json().get("errors") or [answer.json()]
        said = "; ".join(str(e.get("message") or e.get("details") or e.get("code") or "") for e in errors)
    except (ValueError, AttributeError, TypeError):
        said = ""
    return redact(said or answer.reason or f"status {answer.status_code}")[:200]


def _passes(error: requests.RequestException) -> bool:
    """Tell whether it may go better in a moment: a name that does not exist and a wrong certificate stay so."""
    lasting = ("NameResolutionError", "CERTIFICATE_VERIFY", "Invalid URL")
    return not any(word in str(error) for word in lasting)


def _asked_to_wait(answer: requests.Response) -> float:
    said = answer.headers.get("Retry-After", "")
    return min(float(said), 60.0) if said.isdigit() else 0.0
