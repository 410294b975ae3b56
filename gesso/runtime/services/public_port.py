"""Ask this instance what a client asks: through the public port, with the token, and by its identity.

The identity comes first, without the token: whatever else listens on that port must not be given it. The gate closes
the connection after that answer, so the token goes over a second one: a program that takes the port between the two
would get it.
"""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso.errors import CheckError
from gesso.runtime.gate import caddy, tokens
from gesso.runtime.layout import PUBLIC_PORT
from gesso.runtime.services import ports

if TYPE_CHECKING:
    from gesso.runtime.layout import Layout

INSTANCE_HEADER = "X-Gesso-Instance"
_TIMEOUT = 5.0  # seconds
_NEXT = "end that program, or run this container in a network namespace of its own; the gate then starts by itself"


@dataclass(frozen=True)
class Answer:
    """ComfyUI's answer through the public port; `body` is its JSON, None where it has none."""

    status: int
    body: Any = None


def ask(layout: Layout, path: str, *, identify: bool = True, port: int = PUBLIC_PORT, secure: bool = False) -> Answer:
    """Send a GET request for `path` through the public port, with the token.

    `identify`: check first that this very instance answers. `secure`: by TLS; the certificate names the outside's host.
    An answer that does not come in time is a 504 where the gate itself answers. Raises CheckError where nothing
    answers, or something else does.
    """
    connection = _connection(port, secure=secure)
    try:
        if identify:
            _identify(connection, layout, port)
        connection.request("GET", f"/{caddy.active_token(layout, {})}{path}", headers={"Accept": "application/json"})
        try:
            answer = connection.getresponse()
            body = answer.read()
        except TimeoutError:
            connection.close()
            _identify(connection, layout, port)
            return Answer(http.client.GATEWAY_TIMEOUT)
        if answer.headers.get(INSTANCE_HEADER) != tokens.instance_id(layout):
            raise _foreign(port)
    except (OSError, http.client.HTTPException) as error:
        raise _unanswered(port, error) from None
    finally:
        connection.close()
    if answer.status == http.client.UNAUTHORIZED:
        raise CheckError(f"the gate on port {port} refuses the instance's own token", "`gesso heal` repairs it")
    try:
        return Answer(answer.status, json.loads(body))
    except (ValueError, RecursionError):
        return Answer(answer.status)


def _connection(port: int, *, secure: bool) -> http.client.HTTPConnection:
    if not secure:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the instance's ID identifies it
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=_TIMEOUT, context=context)


def _identify(connection: http.client.HTTPConnection, layout: Layout, port: int) -> None:
    connection.request("GET", "/", headers={"Accept": "application/json"})
    answer = connection.getresponse()
    answer.read()
    expected = tokens.instance_id(layout)
    if not expected or answer.headers.get(INSTANCE_HEADER) != expected:
        raise _foreign(port)


def _foreign(port: int) -> CheckError:
    by = ports.holder(port)
    return CheckError(f"port {port} is not answered by this instance{f'; it is held by {by}' * bool(by)}", _NEXT)


def _unanswered(port: int, error: Exception) -> CheckError:
    by = ports.holder(port)
    if not by:
        return CheckError(f"the gate does not listen on port {port}", "`gesso logs gate` shows why; it is restarted")
    return CheckError(f"port {port} does not answer: {error}; it is held by {by}", "`gesso logs gate` shows why")
