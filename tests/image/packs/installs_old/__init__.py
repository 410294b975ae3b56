"""A node pack whose install script installs SQLAlchemy 1.4 with pip."""

NODE_CLASS_MAPPINGS: dict[str, type] = {}
