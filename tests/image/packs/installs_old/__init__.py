"""A node pack whose install script asks pip for SQLAlchemy 1.4."""

NODE_CLASS_MAPPINGS: dict[str, type] = {}
