"""The part of ComfyUI that needs SQLAlchemy 2: imported first, used once; a failure ends the process."""

# No `from __future__ import annotations` here: SQLAlchemy evaluates them, and these name local things.
import sys
from pathlib import Path

FAILED = "ASSETS_STARTUP_FAILED"


def require_orm() -> None:
    """Exit with ComfyUI's own message unless SQLAlchemy has what ComfyUI imports from it."""
    try:
        from sqlalchemy.orm import mapped_column  # noqa: F401
    except ImportError as error:
        print(f"{FAILED}\nImportError: {error}", file=sys.stderr, flush=True)
        sys.exit(1)


def open_database(url: str) -> int:
    """Create a small database with a mapped class and record this start in it; return the number of starts.

    Importing `mapped_column` is not a sufficient test: half-installed versions import and then fail to map.
    """
    from sqlalchemy import create_engine, func, select
    from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

    class Base(DeclarativeBase):
        pass

    class Start(Base):
        __tablename__ = "standin_starts"
        id: Mapped[int] = mapped_column(primary_key=True)
        python: Mapped[str]

    if url.startswith("sqlite:////"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url)
    try:
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(Start(python=sys.version.split()[0]))
            session.commit()
            return session.scalar(select(func.count(Start.id))) or 0
    finally:
        engine.dispose()
