"""The network: addresses, tokens, HTTP connections, and sources."""
