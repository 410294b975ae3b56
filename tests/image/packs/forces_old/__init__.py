"""A node pack that bypasses the constraint and installs SQLAlchemy 1.4."""

NODE_CLASS_MAPPINGS: dict[str, type] = {}
