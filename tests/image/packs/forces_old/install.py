"""Install without the constraint in the environment: pip obeys; the final layer must undo it."""

import os
import subprocess
import sys

env = {name: value for name, value in os.environ.items() if not name.endswith("_CONSTRAINT")}
subprocess.run([sys.executable, "-m", "pip", "install", "sqlalchemy==1.4.54"], check=True, env=env)
shown = [sys.executable, "-c", "import sqlalchemy; print('now', sqlalchemy.__version__)"]
assert subprocess.run(shown, check=True, capture_output=True, text=True).stdout == "now 1.4.54\n"
