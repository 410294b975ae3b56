"""The image wing: what runs inside an instance."""
