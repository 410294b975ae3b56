"""Self-heal: examine everything, plan, repair only what is damaged, report. Behind `gesso heal`, the page, and SSH."""
