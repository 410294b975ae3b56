"""The gate's answers in words: what Krita and browsers can show."""

from __future__ import annotations

import json
import re

import pytest

from gesso.runtime.gate import pages

ANSWERS = {name: found for name, found in vars(pages).items() if isinstance(found, pages.Answer)}


def test_there_is_one_for_each_case() -> None:
    assert {found.status for found in ANSWERS.values()} == {0, 401, 403, 404, 413, 429, 503}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_krita_shows_one_short_line(answer: pages.Answer) -> None:
    found = json.loads(answer.json)
    assert list(found) == ["error"]
    assert 10 < len(found["error"]) <= 120
    assert "\n" not in found["error"]


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_a_browser_gets_a_whole_page(answer: pages.Answer) -> None:
    assert answer.html.startswith("<!doctype html><html lang=")
    assert len(re.findall(r"<h1>[^<]+</h1>", answer.html)) == 1
    assert '<meta name="viewport"' in answer.html
    assert "<title>gesso</title>" in answer.html
    assert '<meta name="color-scheme" content="light dark">' in answer.html
    assert ":root{color-scheme:light dark}" in answer.html, "on the body alone, half of the page stays light"
    assert "`" not in answer.html + answer.json, "Caddy's configuration quotes them with backticks"


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_what_passes_by_itself_is_tried_again(answer: pages.Answer) -> None:
    passes = answer.status == 503
    assert (answer.reload > 0) == passes
    lead = f'<noscript><meta http-equiv="refresh" content="{answer.reload}"></noscript>'
    assert (lead in answer.html) == passes
    assert answer.html.count("http-equiv") == passes, "axe: no delayed refresh by a meta element"
    assert (answer.retry_after > 0) == (answer.status in {429, 503})
