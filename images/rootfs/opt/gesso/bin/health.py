#!/opt/gesso/venv/bin/python -BESs
"""The HEALTHCHECK: ask the agent, which knows. Exit code 0: Krita can work with this instance; 1: it cannot, and why.

A Python without its site packages: the check runs every 30 seconds on instances that cost nothing while idle.
"""

import sys

sys.path.append(f"/opt/gesso/venv/lib/python3.{sys.version_info[1]}/site-packages")  # -S: without the rest of site

from gesso.runtime.agent_client import ask

status, body = ask("/health", 8.0)
sys.stdout.write(f"{body or 'the agent does not answer'}\n")
sys.exit(0 if status == 200 else 1)
