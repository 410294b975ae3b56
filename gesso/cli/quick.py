"""The `gesso` command's entry: what the agent knows is printed at once; everything else is gesso.cli.main.

`status`, `url` and `health` are asked again and again, by people and by scripts. The agent has everything that they
print in its memory; argparse and the other libraries would cost more than the question.
"""

import os
import sys

from gesso.runtime.agent_client import ask

_KNOWN = {"status": ((), ("--json",)), "health": ((), ("--json",)), "url": ((),)}
_TIMEOUT = 20.0  # seconds; a fresh check waits for ComfyUI
_DECIDES = "GESSO_PUBLIC_URL"  # in this session's environment: the agent cannot know it


def main() -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:]
    if words and tuple(words[1:]) in _KNOWN.get(words[0], ()) and _DECIDES not in os.environ:
        status, body = ask(f"/cli/{words[0]}{'?json' if '--json' in words else ''}", _TIMEOUT)
        if status == 200:
            return _print(body)
    from gesso.cli.main import main as run

    return run()


def _print(body: str) -> int:
    """Print an answer: a line with the exit code, a line for stderr, and the rest for stdout."""
    code, note, text = body.split("\n", 2)
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
        if note:
            sys.stderr.write(f"{note}\n")
    except BrokenPipeError:  # the reader closed it: not an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(code)
