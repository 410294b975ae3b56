"""The builder wing: what runs on your machine. Never imported by the runtime, and not in the image's wheel."""
