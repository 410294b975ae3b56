"""Implementation of the invoke tasks: select, call, print. The tasks themselves are one line each (tasks.py)."""
