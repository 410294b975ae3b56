"""Start the stand-in for ComfyUI: same flags, routes and startup failures, without models and torch."""

from __future__ import annotations

import sys

from standin.cli import parse
from standin.database import require_orm

if __name__ == "__main__":
    args = parse(sys.argv[1:])
    # Before anything else is imported, as in ComfyUI: a wrong SQLAlchemy fails the start, not a later request.
    require_orm()
    from standin.run import run

    sys.exit(run(args))
