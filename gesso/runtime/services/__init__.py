"""Start, query and restart the programs of an instance."""
