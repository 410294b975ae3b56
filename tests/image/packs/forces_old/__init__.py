"""A node pack that gets round the constraint and leaves SQLAlchemy 1.4 behind."""

NODE_CLASS_MAPPINGS: dict[str, type] = {}
