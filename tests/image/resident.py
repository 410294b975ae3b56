"""Resident memory of the services: agent, gate, supervisor, watchdog, and the fetching process, if it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conftest import Instance

SERVING = ("agent", "gate", "supervisor", "watchdog")
LIMIT = 150_000_000  # bytes, of those four


def resident(instance: Instance) -> dict[str, int]:
    """Return the resident bytes of each; `fetch` is the agent's child, and absent if it does not run."""
    names = {"agent": "agent", "gate": "gate", "supervisor": "", "watchdog": "watchdog"}
    found = {name: instance.supervisor(f"pid {program}").strip() for name, program in names.items()}
    agent = found["agent"]
    children = instance.run(rf"grep -lE '^PPid:\s+{agent}$' /proc/[0-9]*/status").stdout.split()
    found |= {f"fetch{n or ''}": path.split("/")[2] for n, path in enumerate(children)}
    sizes = {name: instance.run(f"grep VmRSS /proc/{pid}/status").stdout.split() for name, pid in found.items()}
    return {name: int(words[1]) * 1024 for name, words in sizes.items() if words}


def shown(sizes: dict[str, int]) -> str:
    """Format the sizes for people, in MB."""
    parts = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in sizes.items())
    serving = sum(sizes.get(name, 0) for name in SERVING)
    return f"resident MB: {parts}; {', '.join(SERVING)} {serving / 1e6:.0f}, all {sum(sizes.values()) / 1e6:.0f}"
