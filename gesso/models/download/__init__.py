"""From sources to the final path: partial file and journal, many connections, hash, rename."""
