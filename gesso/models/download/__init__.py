"""Download a model to its final path: partial file and journal, parallel connections, hash, rename."""
