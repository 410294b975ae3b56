"""Self-heal: examine everything, plan, repair just what is wrong, report. `gesso heal`, the page's button, and SSH."""
