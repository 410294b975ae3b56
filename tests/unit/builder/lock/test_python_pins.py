"""The Python lock: parsing loses no pin or hash; compiling requires the SQLAlchemy guard and refuses other indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gesso import proc
from gesso.builder.lock import python_pins
from gesso.builder.lock.python_pins import Pin, compile_lock, grouped, pin_of, read_pins
from gesso.errors import LockError
from gesso.manifest.load import load
from gesso.manifest.schema import Python, PythonLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gesso.settings import Project

HASH = "--hash=sha256:" + "0" * 64
GUARD = ("sqlalchemy>=2.0,<2.1",)


def _python(**changes: Any) -> Python:
    return Python.model_validate({"version": "3.13", "constraints": GUARD, **changes})


# --- reading


def test_read_pins() -> None:
    text = f"""\
# made by invoke lock
--index-url https://me:pw@host/simple
--extra-index-url https://other/simple
absl-py==2.5.1 \\
    {HASH} \\
    {HASH}
    # via mediapipe

Foo_Bar.baz==1.0+cu130 {HASH}
win==1 ; sys_platform == 'linux' \\
    # an annotation in the middle
    {HASH}
"""
    pins = read_pins(text)
    assert [(pin.name, pin.version) for pin in pins] == [
        ("absl-py", "2.5.1"),
        ("foo-bar-baz", "1.0+cu130"),
        ("win", "1"),
    ]
    assert pins[0].text == f"absl-py==2.5.1 \\\n    {HASH} \\\n    {HASH}"
    assert pins[2].text.count("--hash=") == 1
    assert read_pins("") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"a==1 {HASH}\nfoo==1\n", "line 2: `foo==1` is not a pin with a hash"),
        ("foo==1 \\\n    --hash=md5:00\n", "line 2: `--hash=md5:00` is not a pin with a hash"),
        (f"foo>=1 {HASH}\n", "line 1: `foo>=1"),
        (f"foo @ https://host/foo.whl {HASH}\n", "line 1: `foo @ https"),
        ("-e .\n", "line 1: `-e .`"),
        (f"a==1 {HASH}\nfoo==1 \\\n    {HASH} \\\n", "`foo==1 .*ends inside this entry"),
    ],
)
def test_a_line_without_a_hash_is_refused(text: str, message: str) -> None:
    with pytest.raises(LockError, match=message) as raised:
        read_pins(text)
    assert raised.value.exit_code == 3
    assert raised.value.next_step == "run `invoke lock`"


_NAMES = st.from_regex(r"[a-z][a-z0-9]{0,6}(-[a-z0-9]{1,4})?", fullmatch=True)


@settings(max_examples=30)
@given(st.lists(st.tuples(_NAMES, st.integers(1, 3), st.booleans()), max_size=12))
def test_every_pin_is_read_unchanged(entries: list[tuple[str, int, bool]]) -> None:
    texts = [f"{name}=={n}.0 \\\n" + " \\\n".join([f"    {HASH}"] * n) for name, n, _ in entries]
    lines = [text + "\n    # via somebody" * via for text, (_, _, via) in zip(texts, entries, strict=True)]
    pins = read_pins("\n".join(lines))
    assert [pin.text for pin in pins] == texts
    assert [pin.name for pin in pins] == [name for name, _, _ in entries]


def test_pin_of_normalizes_names() -> None:
    pins = read_pins(f"Foo_Bar==1 {HASH}\nsqlalchemy==2.0.58 {HASH}\n")
    assert pin_of(pins, "foo.bar").version == pin_of(pins, "FOO-BAR").version == "1"
    assert pin_of(pins, "SQLAlchemy").version == "2.0.58"
    with pytest.raises(LockError, match="the Python lock has no torch"):
        pin_of(pins, "torch")


@pytest.mark.parametrize("name", ["python.lock.txt", "python.trial.lock.txt"])
def test_the_projects_locks(project: Project, name: str) -> None:
    text = (project.locks / name).read_text(encoding="utf-8")
    pins = read_pins(text)
    assert text.count("==") == len(pins) > 10
    assert sum(pin.text.count("--hash=sha256:") for pin in pins) == text.count("--hash=sha256:")
    assert pin_of(pins, "sqlalchemy").version.startswith("2.0.")
    assert len({pin.name for pin in pins}) == len(pins)


# --- grouping by layer


def _pins(*names: str) -> tuple[Pin, ...]:
    return tuple(Pin(name, "1", f"{name}==1 {HASH}") for name in names)


def test_grouped_first_match_wins_and_the_rest_are_libraries() -> None:
    layers = (
        PythonLayer(name="math", match=("nvidia-cublas",)),
        PythonLayer(name="cuda", match=("nvidia-*", "cuda-*")),
        PythonLayer(name="empty", match=("nothing",)),
    )
    groups = grouped(_pins("aiohttp", "nvidia-cublas", "nvidia-nccl", "cuda-x", "numpy"), layers)
    assert {name: [pin.name for pin in group] for name, group in groups.items()} == {
        "math": ["nvidia-cublas"],
        "cuda": ["nvidia-nccl", "cuda-x"],
        "libraries": ["aiohttp", "numpy"],
    }
    assert list(groups)[-1] == "libraries"  # what changes often comes last
    assert grouped(_pins("nvidia-cublas"), layers).keys() == {"math"}


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from("abcxyz") | _NAMES, max_size=20, unique=True),
    st.lists(st.lists(st.sampled_from(["a*", "b*", "*", "?", "c-*", "[ab]*"]), min_size=1), max_size=4),
)
def test_grouped_neither_loses_nor_duplicates_a_pin(names: list[str], globs: list[list[str]]) -> None:
    layers = [PythonLayer(name=f"l{n}", match=tuple(match)) for n, match in enumerate(globs)]
    result = [pin for group in grouped(_pins(*names), layers).values() for pin in group]
    assert sorted(pin.name for pin in result) == sorted(names)


def test_the_layers_of_the_real_image(project: Project) -> None:
    manifest = load(project.manifests / "sdxl.yaml", root=project.root).manifest
    pins = read_pins((project.locks / "python.lock.txt").read_text(encoding="utf-8"))
    groups = grouped(pins, manifest.python.layers)
    assert list(groups) == [*(layer.name for layer in manifest.python.layers), "libraries"]
    assert {pin.name for pin in groups["torch"]} >= {"torch", "torchvision", "torchaudio"}


# --- compiling


Fake = tuple[list[tuple[list[str], str | None]], dict[str, str]]
_NO_SOLUTION = """\
  \N{MULTIPLICATION SIGN} No solution found when resolving dependencies:
  ╰─▶ Because bad-pack depends on sqlalchemy<2 and you require sqlalchemy>=2.0,<2.1, we can
      conclude that your requirements are unsatisfiable.

      hint: look elsewhere
"""


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Fake uv: return the list of calls, and a table of errors by the source whose presence causes them."""
    calls: list[tuple[list[str], str | None]] = []
    conflicts: dict[str, str] = {}

    def fake(
        folder: Path, python: Python, requirements: Mapping[str, str], *, existing: str | None = None
    ) -> proc.Result:
        calls.append((list(requirements), existing))
        error = next((text for name, text in conflicts.items() if name in requirements), "")
        if not error:
            (folder / "python.lock.txt").write_text(f"sqlalchemy==2.0.58 {HASH}\n", encoding="utf-8")
        return proc.Result(command="uv", code=int(bool(error)), stdout="", output=error)

    monkeypatch.setattr(python_pins, "_compile", fake)
    return calls, conflicts


OLD = f"numpy==2.1 --hash=sha256:{'0' * 64}\n"


def test_one_resolution_of_everything(resolver: Fake) -> None:
    calls, _ = resolver
    text = compile_lock(_python(), {"ComfyUI": "torch\n", "pack": "numpy\n"}, existing=OLD)
    assert read_pins(text)[0].version == "2.0.58"
    assert calls == [(["ComfyUI", "pack"], OLD)]
    compile_lock(_python(), {"ComfyUI": ""}, existing="old", upgrade=True)
    assert calls[1] == (["ComfyUI"], None)


@pytest.mark.parametrize(
    "constraints",
    [
        (),
        ("numpy<3",),
        ("sqlalchemy",),
        ("sqlalchemy>=2.0",),
        ("sqlalchemy<2.1",),
        ("sqlalchemy>=1.4,<2.1",),
        ("sqlalchemy>=2.0,!=2.1.0",),
        ("sqlalchemy>=2.0,<2.2",),
        ("sqlalchemy<2",),
        ("sqlalchemy>=2.0,<2.1 ; python_version < '3'",),
        ("sqlalchemy-utils>=2.0,<2.1",),
    ],
)
def test_a_manifest_without_the_sqlalchemy_guard_is_refused(constraints: tuple[str, ...], resolver: Fake) -> None:
    with pytest.raises(LockError, match=r"^python\.constraints: nothing keeps SQLAlchemy") as raised:
        compile_lock(_python(constraints=constraints), {"ComfyUI": ""})
    assert raised.value.exit_code == 3
    assert "sqlalchemy>=2.0,<2.1" in raised.value.next_step
    assert resolver[0] == []


@pytest.mark.parametrize(
    "constraints",
    [("sqlalchemy>=2.0,<2.1",), ("numpy<3", "SQLAlchemy~=2.0.30"), ("sqlalchemy==2.0.*",)],
)
def test_a_manifest_with_the_sqlalchemy_guard(constraints: tuple[str, ...], resolver: Fake) -> None:
    assert compile_lock(_python(constraints=constraints), {"ComfyUI": ""})


def test_a_constraint_that_cannot_be_read_is_named(resolver: Fake) -> None:
    with pytest.raises(LockError, match=r"`sqlalchemy=>2`") as raised:
        compile_lock(_python(constraints=("sqlalchemy=>2",)), {"ComfyUI": ""})
    assert raised.value.next_step


def test_the_real_manifests_have_the_sqlalchemy_guard(project: Project, resolver: Fake) -> None:
    for arch in project.archs():
        python = load(project.manifests / f"{arch}.yaml", root=project.root).manifest.python
        assert compile_lock(python, {"ComfyUI": ""})
        with pytest.raises(LockError):
            compile_lock(python.model_copy(update={"constraints": ()}), {"ComfyUI": ""})


@pytest.mark.parametrize(
    "line",
    [
        "--extra-index-url https://host/simple",
        "--index-url=https://host/simple",
        "--find-links https://host/",
        "--trusted-host host",
        "  --extra-index-url https://host/simple",
        "-i https://host/simple",
        "-f https://host/",
    ],
)
def test_a_pack_cannot_bring_another_package_host(line: str, resolver: Fake) -> None:
    with pytest.raises(LockError, match=r"^pack: its requirements name another package host") as raised:
        compile_lock(_python(), {"ComfyUI": "", "pack": f"numpy\n{line}\ntorch\n"})
    assert "requirements: null" in raised.value.next_step
    assert resolver[0] == []


def test_text_that_only_resembles_such_an_option(resolver: Fake) -> None:
    assert compile_lock(_python(), {"ComfyUI": "# --index-url x\nfoo-i\nnumpy --hash=sha256:00\n"})


def test_a_pack_that_conflicts_is_named_with_the_conflict(resolver: Fake) -> None:
    calls, conflicts = resolver
    conflicts["bad-pack"] = _NO_SOLUTION
    with pytest.raises(LockError) as raised:
        compile_lock(_python(), {"ComfyUI": "torch", "good": "numpy", "bad-pack": "sqlalchemy<2", "last": "numpy"})
    message = raised.value.message
    assert message == (
        "conflict with gesso's own sqlalchemy guard: node pack bad-pack: Because bad-pack depends on sqlalchemy<2 and "
        "you require sqlalchemy>=2.0,<2.1, we can conclude that your requirements are unsatisfiable."
    )
    assert "requirements: null" in raised.value.next_step
    # Packs that fit stay in while the next is tried; the one that does not is left out again.
    assert [names for names, _ in calls[1:]] == [
        ["ComfyUI"],
        ["ComfyUI", "good"],
        ["ComfyUI", "good", "bad-pack"],
        ["ComfyUI", "good", "last"],
    ]


def test_every_pack_that_conflicts_is_named(resolver: Fake) -> None:
    output = "error: No solution found when resolving dependencies\n  cause: Because of {}\n"
    resolver[1].update({"one": output.format("numpy<1"), "two": output.format("numpy>9")})
    expected = "conflict with the rest: node pack one: Because of numpy<1; node pack two: Because of numpy>9"
    with pytest.raises(LockError) as raised:
        compile_lock(_python(), {"ComfyUI": "x", "one": "numpy<1", "two": "numpy>9"})
    assert raised.value.message == expected


@pytest.mark.parametrize(
    ("output", "next_step"),
    [
        ("error: Failed to fetch: dns error", "UV_DEFAULT_INDEX"),
        ("error: tcp connect error", "UV_DEFAULT_INDEX"),
        ("No solution found: because torch==99 is not there", "correct `python`"),
    ],
)
def test_no_pack_is_blamed_for_what_fails_without_it(output: str, next_step: str, resolver: Fake) -> None:
    resolver[1]["ComfyUI"] = output
    with pytest.raises(LockError, match=r"^Python requirements cannot be resolved") as raised:
        compile_lock(_python(), {"ComfyUI": "torch", "pack": "numpy"})
    assert next_step in raised.value.next_step
    assert "pack" not in raised.value.message


def test_uvs_arguments(program: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = program("gesso-uv", 'cp * "$LOG"; printf "%s\\n" "$@" >"$LOG/argv"')
    monkeypatch.setattr(python_pins, "UV_COMPILE", ["gesso-uv", *python_pins.UV_COMPILE[1:]])
    python = _python(
        requirements=("torch==2",), exclude=("trimesh",), overrides=("numpy==2.1",), index="https://host/x"
    )
    folder = tmp_path / "scratch"
    folder.mkdir()
    assert python_pins._compile(folder, python, {"ComfyUI": "aiohttp"}, existing="old==1").ok
    argv = (log / "argv").read_text().splitlines()
    assert argv[:4] == ["-m", "uv", "pip", "compile"]
    assert {"--generate-hashes", "gesso.in", "ComfyUI.txt"} <= set(argv)
    for option, value in {
        "--python-version": "3.13",
        "--constraint": "constraints.txt",
        "--override": "overrides.txt",
        "--index": "https://host/x",
        "--output-file": "python.lock.txt",
    }.items():
        assert argv[argv.index(option) + 1] == value
    assert (log / "constraints.txt").read_text() == "sqlalchemy>=2.0,<2.1\n"
    assert (log / "overrides.txt").read_text() == "numpy==2.1\ntrimesh ; sys_platform == 'never'\n"
    assert (log / "gesso.in").read_text() == "torch==2\n"
    assert (log / "python.lock.txt").read_text() == "old==1"
