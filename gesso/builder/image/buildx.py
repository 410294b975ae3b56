"""Run one build with `docker buildx`, and inspect the resulting image."""

from __future__ import annotations

import json
import os
import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso import proc
from gesso.builder.image.progress import Event, Progress, failure
from gesso.errors import BuildError, ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# The variables of pip and uv for package indexes. They may contain credentials: they are passed as a build secret.
INDEX_VARIABLES = (
    "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_TRUSTED_HOST", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL",
    "UV_INDEX", "UV_INDEX_STRATEGY", "UV_INDEX_URL", "UV_INSECURE_HOST",
)  # fmt: skip
PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


_CACHE = re.compile(r"[a-z0-9][\w.-]*(:\d+)?(/[a-z0-9][\w.-]*)+(:[\w.-]+)?", re.ASCII)


@dataclass(frozen=True)
class Caches:
    """Build caches: `local` the builder's own, `read` references in registries, `write` the reference to export to."""

    local: bool = True
    read: tuple[str, ...] = ()
    write: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is not a reference: a comma would add further settings.

        Raises ManifestError.
        """
        flags = [*(("--cache-from", ref) for ref in self.read), *([("--cache-to", self.write)] if self.write else [])]
        for flag, reference in flags:
            if not _CACHE.fullmatch(reference):
                raise ManifestError(
                    f"{flag} {reference}: not a registry reference",
                    "use HOST/NAME:TAG in lower case, such as ghcr.io/me/gesso-cache:sdxl",
                )

    @property
    def flags(self) -> list[str]:
        """The flags for buildx. `mode=max`: every step is exported, not only those that became layers."""
        flags = [] if self.local else ["--no-cache"]
        flags += [flag for ref in self.read for flag in ("--cache-from", f"type=registry,ref={ref}")]
        return flags + (["--cache-to", f"type=registry,ref={self.write},mode=max"] if self.write else [])


@dataclass(frozen=True)
class Layer:
    """A filesystem layer: its size in bytes and the instruction that made it."""

    size: int
    made_by: str


@dataclass(frozen=True)
class Image:
    """An image in the engine's store; `digest` is the manifest's where the store keeps one."""

    image_id: str
    digest: str | None
    size: int
    layers: tuple[Layer, ...]


def build(
    context: Path,
    tags: Sequence[str],
    *,
    env: Mapping[str, str],
    builder: str | None,
    on_event: Callable[[Event], None],
    caches: Caches | None = None,
) -> str | None:
    """Build a context, load the image under its tags, and return the manifest digest where the store has one.

    Raises BuildError and FetchError with the failed step, the reason and the next step.
    """
    progress = Progress()

    def on_line(line: str) -> None:
        for event in progress.feed(line):
            on_event(event)

    with (
        tempfile.TemporaryDirectory(prefix="gesso-build-") as scratch,
        _secrets(Path(scratch), env) as secrets,
    ):
        metadata = Path(scratch) / "metadata.json"
        proxies = [arg for name in PROXY_VARIABLES if env.get(name) for arg in ("--build-arg", name)]
        command = [
            "docker", "buildx", "build", "--progress", "rawjson", "--load", "--provenance=false", "--sbom=false",
            "--metadata-file", str(metadata), *(["--builder", builder] if builder else []),
            *(caches or Caches()).flags, *secrets, *proxies,
            *(arg for tag in tags for arg in ("--tag", tag)), str(context),
        ]  # fmt: skip
        result = proc.stream(command, on_line, env={"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"})
        if not result.ok:
            raise failure(progress, "\n".join(progress.other))
        return _digest(metadata)


def _digest(metadata: Path) -> str | None:
    try:
        digest = json.loads(metadata.read_text(encoding="utf-8")).get("containerimage.digest")
    except (OSError, ValueError):
        return None
    return str(digest) if digest else None


@contextmanager
def _secrets(scratch: Path, env: Mapping[str, str]) -> Iterator[list[str]]:
    """Yield the flags for the secrets: the host's CA bundle, and the settings of pip and uv."""
    flags: list[str] = []
    bundle = env.get("SSL_CERT_FILE")
    if bundle and Path(bundle).is_file():
        flags += ["--secret", f"id=ca,src={bundle}"]
    settings = {name: env[name] for name in INDEX_VARIABLES if env.get(name)}
    if settings:
        path = scratch / "index"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(f"{name}='{_quoted(value)}'\n" for name, value in settings.items())
        flags += ["--secret", f"id=index,src={path}"]
    yield flags


def _quoted(value: str) -> str:
    return value.replace("'", "'\\''")


def inspect(reference: str, digest: str | None) -> Image:
    """Inspect an image in the engine.

    Raises BuildError where it does not exist.
    """
    facts = _json(["docker", "image", "inspect", "--format", "{{json .}}", reference])
    history = proc.run(["docker", "history", "--no-trunc", "--human=false", "--format", "{{json .}}", reference])
    rows = [json.loads(line) for line in history.stdout.splitlines() if line.strip()]
    layers = [Layer(int(row["Size"]), _instruction(row["CreatedBy"])) for row in reversed(rows) if int(row["Size"])]
    image_id = str(facts["Id"])
    return Image(image_id, digest if digest != image_id else None, int(facts["Size"]), tuple(layers))


def _instruction(text: str) -> str:
    text = re.sub(r"\s*--mount=\S+", "", text.removeprefix("RUN /bin/sh -c ").removesuffix("# buildkit"))
    return " ".join(text.split()) or "base"


def _json(command: Sequence[str]) -> dict[str, Any]:
    result = proc.run(command, timeout=60)
    if not result.ok:
        raise BuildError(f"the engine has no such image: {result.tail(1)}", "build it again")
    data: dict[str, Any] = json.loads(result.stdout)
    return data
