"""The text of Caddy's configuration. Pure.

Caddy asks the agent about every request (docs/adr/0021): the rules are in gate/decision. While the agent does not
answer, requests with the token in the path or as Bearer still reach ComfyUI; others get 503, browsers a page that
reloads.

* `gesso=0`: Caddy takes an empty replacement for none, and would set the cookie to the pattern.
* `path_regexp`: Caddy's `path` ignores case. `vars_regexp {uri}`: the path as it was sent, neither decoded nor cleaned.
* `exclude http`: its error lines contain the request's URL, and so the token.
* `request_header -X-Gesso-Door` comes first: clients must not send that header.
* `Connection: close` on refusals: otherwise Caddy waits for the request's body before it answers.
* The second site: what fails inside `handle_errors` is not handled again, and the client would get an empty 502.
* `max_header_size`: Go adds 4 KB to it. The agent accepts more, so that Caddy's limit is the one that counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.runtime.gate import pages, paths
from gesso.runtime.layout import COMFY_PORT, PUBLIC_PORT

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.runtime.gate.pages import Answer

_TEMPLATE = """\
{{
\tadmin off
\tauto_https off
\tlog default {{
\t\toutput stderr
\t\texclude http
\t}}
\tservers {{
\t\tmax_header_size 12KB
\t\ttimeouts {{
\t\t\tread_header 10s
\t\t\tread_body 1h
\t\t\tidle 5m
\t\t}}
\t}}
}}

(headers) {{
\theader {{
\t\tReferrer-Policy no-referrer
\t\tX-Frame-Options SAMEORIGIN
\t\tCross-Origin-Resource-Policy same-origin
\t\tX-Gesso-Instance {instance}
\t\t-Server
\t\tdefer
\t}}
}}

(comfyui) {{
\treverse_proxy 127.0.0.1:{comfy} {{
\t\theader_up -Authorization
\t\theader_up -X-Gesso-Door
\t\theader_up Cookie "gesso-[0-9a-f]+=[^;]*" "gesso=0"
\t\t@missing {{
\t\t\tstatus 404
\t\t\theader Content-Type text/plain*
\t\t}}
\t\thandle_response @missing {{
{not_found}
\t\t}}
\t\t@large {{
\t\t\tstatus 413
\t\t\theader Content-Type text/plain*
\t\t}}
\t\thandle_response @large {{
{too_large}
\t\t}}
\t\t@failed {{
\t\t\tstatus 4xx 5xx
\t\t\theader Content-Type text/plain*
\t\t}}
\t\thandle_response @failed {{
{other_error}
\t\t}}
\t}}
}}

(below) {{
\t@below path_regexp {below}
\turi @below strip_prefix /gesso
}}

{scheme}:{public} {{{tls}
\timport headers
\troute {{
\t\trequest_header -X-Gesso-Door
\t\tforward_auth {agent} {{
\t\t\turi /gate
\t\t\tcopy_headers X-Gesso-Door
\t\t\theader_up -Upgrade-Insecure-Requests
\t\t\theader_down Connection close
\t\t\ttransport http {{
\t\t\t\tdial_timeout 1s
\t\t\t\tresponse_header_timeout 2s
\t\t\t}}
\t\t}}
\t\t@welcome header X-Gesso-Door welcome
\t\treverse_proxy @welcome {agent} {{
\t\t\trewrite /gate/welcome
\t\t\theader_up X-Forwarded-Method {{method}}
\t\t\theader_up X-Forwarded-Uri {{http.request.orig_uri}}
\t\t}}
\t\t@preflight header X-Gesso-Door preflight
\t\treverse_proxy @preflight {agent} {{
\t\t\trewrite /gate/preflight
\t\t\theader_up X-Forwarded-Method {{method}}
\t\t\theader_up X-Forwarded-Uri {{http.request.orig_uri}}
\t\t}}
\t\t@path header X-Gesso-Door path
\t\turi @path strip_prefix /{token}
\t\t@agent {{
\t\t\tpath_regexp {own}
\t\t\tnot path_regexp {not_own}
\t\t}}
\t\treverse_proxy @agent {agent}
\t\timport below
\t\timport comfyui
\t}}
\thandle_errors {{
\t\timport headers
\t\t@passed header_regexp X-Gesso-Door .
\t\t@token vars_regexp {{http.request.uri}} ^/{token}/
\t\t@bearer header Authorization "Bearer {token}"
\t\t@agent {{
\t\t\tpath_regexp {own_with_token}
\t\t\tnot path_regexp {not_own_with_token}
\t\t}}
\t\thandle @agent {{
{restarting}
\t\t}}
\t\thandle @passed {{
{starting_comfyui}
\t\t}}
\t\thandle @token {{
\t\t\turi strip_prefix /{token}
\t\t\treverse_proxy {second}
\t\t}}
\t\thandle @bearer {{
\t\t\treverse_proxy {second}
\t\t}}
\t\thandle {{
{starting}
\t\t}}
\t}}
}}

http:// {{
\tbind {second}
\troute {{
\t\timport below
\t\timport comfyui
\t}}
\thandle_errors {{
\t\thandle {{
{starting_comfyui}
\t\t}}
\t}}
}}
"""


@dataclass(frozen=True)
class Site:
    """What the configuration depends on. `certificate`: certificate and key, or None."""

    token: str
    instance: str
    agent_socket: Path
    comfyui_socket: Path
    certificate: tuple[Path, Path] | None = None


def text(site: Site) -> str:
    """Return the configuration."""
    pair = site.certificate
    return _TEMPLATE.format(
        public=PUBLIC_PORT, comfy=COMFY_PORT, agent=f"unix/{site.agent_socket}", second=f"unix/{site.comfyui_socket}",
        token=site.token, instance=site.instance,
        scheme="https://" if pair else "", tls=f"\n\ttls {pair[0]} {pair[1]}" if pair else "",
        own=paths.AGENT, not_own=paths.NOT_AGENT, below=paths.BELOW,
        own_with_token=_with_token(paths.AGENT, site.token),
        not_own_with_token=_with_token(paths.NOT_AGENT, site.token),
        not_found=_reply(pages.NOT_FOUND), too_large=_reply(pages.TOO_LARGE),
        other_error=_reply(pages.OTHER_ERROR, "{http.reverse_proxy.status_code}"),
        starting=_reply(pages.STARTING), restarting=_reply(pages.PAGE_STARTING),
        starting_comfyui=_reply(pages.COMFYUI_STARTING),
    )  # fmt: skip


def _with_token(pattern: str, token: str) -> str:
    return pattern.replace("^/", f"^(/{token})?/", 1)


def _reply(answer: Answer, status: str = "") -> str:
    """Return the directives that give an answer: JSON, or a page for browsers."""
    code = status or str(answer.status)
    lines = [  # in a route, for Caddy sorts other directives, and then the page would be called JSON
        "route {", "\t@html header Accept *text/html*", "\theader Cache-Control no-store", "\theader Connection close",
        *([f"\theader Retry-After {answer.retry_after}"] if answer.retry_after else []),
        "\theader Content-Type application/json",
        '\theader @html Content-Type "text/html; charset=utf-8"',
        *([f"\theader @html Refresh {answer.reload}"] if answer.reload else []),
        f'\theader @html Content-Security-Policy "{pages.HTML_POLICY}"',
        f"\trespond @html `{answer.html}` {code}", f"\trespond `{answer.json}` {code}", "}",
    ]  # fmt: skip
    return "\n".join(f"\t\t\t{line}" for line in lines)
