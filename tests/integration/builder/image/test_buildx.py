"""One build: the command line, the secrets, and the inspection of the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gesso.builder.image import buildx
from gesso.builder.image.buildx import Caches, Image, Layer
from gesso.builder.image.progress import Finished, Started
from gesso.errors import BuildError, FetchError, ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DOCKER = r"""
printf '%s\n' "$@" >"$LOG/argv"
env >"$LOG/env"
while [ $# -gt 0 ]; do
  case "$1" in
    --metadata-file) printf '{"containerimage.digest": "sha256:ab"}' >"$2" ;;
    id=index,src=*) cp "${1#id=index,src=}" "$LOG/index"; ls -l "${1#id=index,src=}" >"$LOG/mode"
                    printf '%s' "${1#id=index,src=}" >"$LOG/where" ;;
  esac
  shift
done
cat <<'EOT'
{"vertexes":[{"digest":"a","name":"[1/1] FROM x","started":"2026-01-01T00:00:00Z"}]}
{"vertexes":[{"digest":"a","name":"[1/1] FROM x","started":"2026-01-01T00:00:00Z","completed":"2026-01-01T00:00:01Z"}]}
EOT
"""


@pytest.fixture
def build(program: Callable[[str, str], Path], tmp_path: Path) -> Callable[..., list[str]]:
    """Build with a fake docker that records its arguments; return them."""
    log = program("docker", DOCKER)

    def run(env: Mapping[str, str] | None = None, **more: Any) -> list[str]:
        options: dict[str, Any] = {"builder": None, "on_event": lambda _: None, **more}
        assert buildx.build(tmp_path / "context", ("gesso:sdxl", "other:1"), env=env or {}, **options) == "sha256:ab"
        return (log / "argv").read_text().splitlines()

    return run


def _after(argv: list[str], option: str) -> list[str]:
    return [argv[n + 1] for n, word in enumerate(argv) if word == option]


def test_the_command_line(build: Callable[..., list[str]], tmp_path: Path) -> None:
    argv = build()
    assert argv[:2] == ["buildx", "build"]
    assert {"--load", "--provenance=false", "--sbom=false"} <= set(argv)
    assert _after(argv, "--progress") == ["rawjson"]
    assert _after(argv, "--tag") == ["gesso:sdxl", "other:1"]
    assert argv[-1] == str(tmp_path / "context")
    assert not {"--secret", "--build-arg", "--builder", "--no-cache"} & set(argv)
    assert "BUILDX_NO_DEFAULT_ATTESTATIONS=1" in (tmp_path / "log/env").read_text().splitlines()


def test_builder_and_cache(build: Callable[..., list[str]]) -> None:
    argv = build(builder="far", caches=Caches(local=False))
    assert _after(argv, "--builder") == ["far"]
    assert "--no-cache" in argv


def test_caches_in_registries(build: Callable[..., list[str]]) -> None:
    argv = build(caches=Caches(read=("ghcr.io/me/cache:sdxl", "localhost:5000/cache"), write="ghcr.io/me/cache:sdxl"))
    assert _after(argv, "--cache-from") == [
        "type=registry,ref=ghcr.io/me/cache:sdxl",
        "type=registry,ref=localhost:5000/cache",
    ]
    assert _after(argv, "--cache-to") == ["type=registry,ref=ghcr.io/me/cache:sdxl,mode=max"]
    assert "--no-cache" not in argv
    plain = build()
    assert not {"--cache-from", "--cache-to"} & set(plain)


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "cache",
        "ghcr.io/Me/cache",
        "ghcr.io/me/cache:a,mode=min",
        "type=local,dest=/etc",
        "-x/y",
        "a/b:c d",
        "a//b",
        "a/b\n",
    ],
)
def test_a_cache_must_be_a_registry_reference(reference: str) -> None:
    with pytest.raises(ManifestError, match=r"(?s)--cache-from .*not a registry reference"):
        Caches(read=("ghcr.io/me/ok:1", reference))
    if reference:
        with pytest.raises(ManifestError, match="--cache-to"):
            Caches(write=reference)


def test_events_are_passed_on(build: Callable[..., list[str]]) -> None:
    events: list[Any] = []
    build(on_event=events.append)
    assert events == [Started("[1/1] FROM x"), Finished("[1/1] FROM x", 1.0, cached=False)]


def test_a_ca_bundle_is_a_secret(build: Callable[..., list[str]], tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    assert _after(build({"SSL_CERT_FILE": str(bundle)}), "--secret") == []  # set, but the file does not exist
    bundle.write_text("x")
    assert _after(build({"SSL_CERT_FILE": str(bundle)}), "--secret") == [f"id=ca,src={bundle}"]


def test_index_settings_are_passed_in_a_private_file(build: Callable[..., list[str]], tmp_path: Path) -> None:
    env = {
        "UV_DEFAULT_INDEX": "https://me:hunter2@host/simple",
        "PIP_EXTRA_INDEX_URL": "https://a/simple https://b/simple",
        "PIP_INDEX_URL": "it's; $(touch /x)",
        "UV_INDEX": "",
        "HF_TOKEN": "hf_secret",
    }
    argv = build(env)
    log = tmp_path / "log"
    assert set((log / "index").read_text().splitlines()) == {
        "UV_DEFAULT_INDEX='https://me:hunter2@host/simple'",
        "PIP_EXTRA_INDEX_URL='https://a/simple https://b/simple'",
        "PIP_INDEX_URL='it'\\''s; $(touch /x)'",
    }
    assert (log / "mode").read_text().startswith("-rw-------")
    where = Path((log / "where").read_text())
    assert _after(argv, "--secret") == [f"id=index,src={where}"]
    assert not where.exists()
    assert not where.parent.exists()
    assert not [word for word in argv if "hunter2" in word or "hf_secret" in word]


def test_a_shell_reads_the_settings_back(build: Callable[..., list[str]], tmp_path: Path) -> None:
    from gesso import proc

    value = """a'b"c$d`e\\f  g"""
    build({"UV_DEFAULT_INDEX": value})
    result = proc.run(["sh", "-c", f'. {tmp_path}/log/index; printf %s "$UV_DEFAULT_INDEX"'])
    assert result.output == value


def test_proxies_are_passed_by_name_only(build: Callable[..., list[str]]) -> None:
    proxy = "http://me:hunter2@proxy:3128"
    argv = build({"https_proxy": proxy, "HTTPS_PROXY": proxy, "no_proxy": "localhost", "http_proxy": ""})
    assert sorted(_after(argv, "--build-arg")) == ["HTTPS_PROXY", "https_proxy", "no_proxy"]
    assert not [word for word in argv if "hunter2" in word]


def test_a_failed_build(program: Callable[[str, str], Path], tmp_path: Path) -> None:
    log = program("docker", DOCKER + 'echo "ERROR: dial tcp: connect: connection refused" >&2\nexit 1')
    with pytest.raises(FetchError, match="a registry does not answer"):
        buildx.build(tmp_path, ("x",), env={"UV_INDEX": "u"}, builder=None, on_event=lambda _: None)
    assert not Path((log / "where").read_text()).exists()


def test_an_interrupted_build_leaves_no_secret(program: Callable[[str, str], Path], tmp_path: Path) -> None:
    log = program("docker", DOCKER + "exec sleep 30")

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        buildx.build(tmp_path, ("x",), env={"UV_INDEX": "u"}, builder=None, on_event=interrupt)
    assert not Path((log / "where").read_text()).exists()


@pytest.mark.parametrize("metadata", ["", "{", "{}", '{"containerimage.digest": ""}'])
def test_a_store_without_digests(program: Callable[[str, str], Path], tmp_path: Path, metadata: str) -> None:
    script = f"""while [ "$1" != --metadata-file ]; do shift; done; printf '%s' '{metadata}' >"$2" """
    program("docker", script)
    assert buildx.build(tmp_path, ("x",), env={}, builder=None, on_event=lambda _: None) is None


# --- inspect

HISTORY = [
    {"Size": "0", "CreatedBy": 'LABEL a="b"'},
    {"Size": "5000", "CreatedBy": "RUN /bin/sh -c uv pip install --mount=type=secret,id=ca  x && true # buildkit"},
    {"Size": "300", "CreatedBy": "COPY rootfs/ / # buildkit"},
    {"Size": "80000000", "CreatedBy": ""},
]


def _engine(program: Callable[[str, str], Path]) -> Path:
    facts = json.dumps({"Id": "sha256:1d", "Size": 80005300})
    rows = "\n".join(json.dumps(row) for row in HISTORY)
    return program(
        "docker", f"""case "$1" in image) cat <<'E'\n{facts}\nE\n;; history) cat <<'E'\n{rows}\nE\n;; esac"""
    )


def test_inspect_returns_the_layers_from_the_bottom(program: Callable[[str, str], Path]) -> None:
    _engine(program)
    assert buildx.inspect("gesso:sdxl", "sha256:ab") == Image(
        image_id="sha256:1d",
        digest="sha256:ab",
        size=80005300,
        layers=(
            Layer(80000000, "base"),
            Layer(300, "COPY rootfs/ /"),
            Layer(5000, "uv pip install x && true"),
        ),
    )


def test_an_image_id_is_not_a_digest(program: Callable[[str, str], Path]) -> None:
    """The older store keeps no manifest: buildx then reports the image's id."""
    _engine(program)
    assert buildx.inspect("gesso:sdxl", "sha256:1d").digest is None


def test_inspect_a_missing_image(program: Callable[[str, str], Path]) -> None:
    program("docker", 'echo "Error: No such image: x" >&2; exit 1')
    with pytest.raises(BuildError, match="the engine has no such image: Error: No such image: x") as raised:
        buildx.inspect("x", None)
    assert raised.value.next_step
