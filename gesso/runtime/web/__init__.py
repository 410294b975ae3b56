"""The agent's web server on loopback, behind the gate: forward_auth, the page, and the API."""
