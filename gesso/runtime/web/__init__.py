"""What the agent serves on loopback, behind the gate: the gate's own question, the page, and the state for programs."""
