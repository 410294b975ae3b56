"""The `workflows:` section of a manifest: the graphs of an image, and their titles in Krita."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from gesso.manifest.graph_tab import derived_title
from gesso.manifest.strict import Strict

WORKFLOW = r"^[a-z0-9_]{1,100}$"
TITLE_LIMIT = 60  # characters: Krita's list of workflows is narrow

WorkflowName = Annotated[str, StringConstraints(pattern=WORKFLOW)]


def _title(title: str) -> str:
    if not 0 < len(title) <= TITLE_LIMIT or not title.isprintable() or title != title.strip():
        raise ValueError(f"must be 1 to {TITLE_LIMIT} printable characters without spaces at the ends")
    return title


def _workflow(given: Any) -> Any:
    """Accept a plain name as a workflow without a title."""
    if isinstance(given, str):
        return {"name": given}
    if not isinstance(given, dict | Workflow):
        raise ValueError("must be a name, or a mapping with `name` and `title`")  # noqa: TRY004 - pydantic's convention
    return given


class Workflow(Strict):
    """A graph, as files in workflows/: NAME.json and NAME.api.json."""

    name: WorkflowName
    title: Annotated[str, AfterValidator(_title)] | None = Field(
        default=None, description="its name in Krita's Graph tab, which sorts by text; default: the file name in words"
    )

    @property
    def shown_title(self) -> str:
        """The title in Krita."""
        return self.title or derived_title(self.name)


WorkflowItem = Annotated[Workflow, BeforeValidator(_workflow, json_schema_input_type=WorkflowName | Workflow)]
