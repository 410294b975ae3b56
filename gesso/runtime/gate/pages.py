"""The gate's own answers, of Caddy and the agent: short JSON, of which Krita shows `error`, or a small page."""

from __future__ import annotations

import json
from dataclasses import dataclass

HTML_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:12vh auto;padding:0 1rem}"
    "input,button{font:inherit;padding:.5rem .7rem}input{width:min(100%,20rem)}code{background:#8883;padding:0 .25em}"
)


@dataclass(frozen=True)
class Answer:
    """An answer in words: `error` for programs (Krita shows one short line), `body` for browsers (HTML).

    `reload`: seconds after which a browser tries again, 0 for never; `retry_after` is the header of the same meaning.
    Browsers reload by the header `Refresh`: checks for accessibility refuse a `meta` element with a delay.
    """

    status: int
    error: str
    body: str
    reload: int = 0
    retry_after: int = 0

    @property
    def json(self) -> str:
        """The answer for programs."""
        return json.dumps({"error": self.error}, ensure_ascii=True)

    @property
    def html(self) -> str:
        """The answer for browsers."""
        lead = f'<noscript><meta http-equiv="refresh" content="{self.reload}"></noscript>' if self.reload else ""
        return page(self.body, lead)


def page(body: str, lead: str = "") -> str:
    """Return a whole page; `lead` goes into its head."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{lead}<title>gesso</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><style>{_STYLE}</style></head>'
        f"<body><main>{body}</main></body></html>"
    )


UNAUTHORIZED = Answer(
    401,
    "Token missing or wrong: paste the whole URL, http://HOST:PORT/TOKEN",
    """\
<h1>401: this server requires a token</h1>
<p>Open the URL that <code>gesso url</code> prints on the instance (on Vast.ai: the Open button of the instance).
It looks like <code>http://HOST:PORT/TOKEN</code>; paste the same URL into Krita.</p>
<form action="/" method="get"><label for="token">Or enter the token here:</label><br>
<input id="token" name="token" type="password" autocomplete="current-password" required>
<button>Let me in</button></form>""",
)
PASTE_PATH = Answer(401, "Paste http://HOST:PORT/TOKEN into Krita, not ?token=…", UNAUTHORIZED.body)
CROSS_SITE = Answer(
    403,
    "Another site sent this request; it was refused",
    """\
<h1>403: another site sent this request</h1>
<p>A page of another site tried to use this server with your cookie, and was refused. If that was you, open this
server's own URL first.</p>""",
)
TOO_MANY = Answer(
    429,
    "Too many wrong tokens from this address: wait a minute",
    "<h1>429: too many wrong tokens</h1><p>Wait a minute, then open the URL that <code>gesso url</code> prints.</p>",
    retry_after=60,
)
STARTING = Answer(
    503,
    "gesso is starting; try again in a few seconds",
    "<h1>gesso is starting</h1><p>This page reloads by itself in a few seconds.</p>",
    reload=3,
    retry_after=5,
)
PAGE_STARTING = Answer(
    503,
    "The page of gesso is starting; try again in a few seconds",
    "<h1>gesso is starting</h1><p>The page is starting; it reloads by itself in a few seconds.</p>",
    reload=3,
    retry_after=5,
)
COMFYUI_STARTING = Answer(
    503,
    "ComfyUI is starting; try again in a few seconds.",
    "<h1>ComfyUI is starting</h1><p>This page reloads by itself in a few seconds.</p>",
    reload=5,
    retry_after=5,
)
NOT_FOUND = Answer(
    404, "ComfyUI has nothing at this address (404)", "<h1>404</h1><p>ComfyUI has nothing at this address.</p>"
)
TOO_LARGE = Answer(
    413,
    "This upload is larger than ComfyUI accepts (413)",
    "<h1>413</h1><p>This upload is larger than ComfyUI accepts.</p>",
)
# Any other text of ComfyUI's web server; Caddy fills in the status.
OTHER_ERROR = Answer(
    0,
    "ComfyUI answered {http.reverse_proxy.status_text}",
    "<h1>{http.reverse_proxy.status_text}</h1><p>This is ComfyUI's answer. <code>gesso logs comfyui</code> shows "
    "more.</p>",
)
