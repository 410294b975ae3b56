"""A node pack that runs pip when it is imported, as some do at every start."""

import subprocess
import sys

command = [sys.executable, "-m", "pip", "install", "--retries", "0", "sqlalchemy<2"]
done = subprocess.run(command, capture_output=True, text=True, check=False)
print(f"runs_pip: pip ended with {done.returncode}: {done.stderr[-200:]}")

NODE_CLASS_MAPPINGS: dict[str, type] = {}
