from __future__ import annotations

from tests.unit.image.conftest import git, git_config, program, project, repository, template  # noqa: F401 - fixtures
