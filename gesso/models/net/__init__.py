"""The network: addresses, tokens, one GET at a time, and a source as it answers."""
