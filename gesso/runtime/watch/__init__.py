"""The agent's watchers: what is checked while an instance runs."""
