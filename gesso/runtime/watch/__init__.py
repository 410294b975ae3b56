"""What the agent watches while an instance runs."""
