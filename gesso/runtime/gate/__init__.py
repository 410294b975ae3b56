"""The gate: the one public port, and who passes it."""
