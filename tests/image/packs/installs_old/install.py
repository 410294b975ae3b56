"""Install as careless packs do."""

import subprocess
import sys

subprocess.run([sys.executable, "-m", "pip", "install", "sqlalchemy<2"], check=True)
