"""What careless packs do when they are installed."""

import subprocess
import sys

subprocess.run([sys.executable, "-m", "pip", "install", "sqlalchemy<2"], check=True)
