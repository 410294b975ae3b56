"""The image wing: everything that runs inside an instance."""
