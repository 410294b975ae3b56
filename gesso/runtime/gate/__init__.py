"""The gate: the one public port, and its access control."""
