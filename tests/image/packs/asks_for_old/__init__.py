"""A node pack whose requirements want SQLAlchemy 1.4, as real ones do."""

NODE_CLASS_MAPPINGS: dict[str, type] = {}
