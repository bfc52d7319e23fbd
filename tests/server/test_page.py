"""The page as it is sent: parts, policy, and that its scripts do not get in each other's way."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

import pytest


class References(HTMLParser):
    """Collects what a page asks for, and what its policy would forbid."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.forbidden: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.asked += [given[name] or "" for name in ("src", "href") if name in given]
        self.forbidden += [name for name in given if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.forbidden.append(tag)


@pytest.fixture
def scripts(client) -> dict[str, str]:
    asked = References(client.get("/").text).asked
    return {name: client.get(name).text for name in asked if name.endswith(".js")}


def test_the_page_asks_for_its_own_parts_only_and_they_are_there(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    found = References(page.text)
    assert found.forbidden == []
    assert "{{" not in page.text
    for name in found.asked:
        if name.startswith(("#", "data:")):
            continue
        assert name.startswith("/web/")
        part = client.get(name)
        assert part.status_code == 200
        assert part.headers["content-type"].startswith(("text/css", "text/javascript"))


def test_the_policy_allows_nothing_but_the_server_itself(client):
    for path in ("/", "/web/visit.js"):
        policy = client.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "http" not in policy


def test_unchanged_parts_are_not_sent_again(client):
    first = client.get("/web/page.css")
    again = client.get("/web/page.css", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "name", ["visit.html", "..%2fservice.py", "%2e%2e/service.py", "report.js", ""]
)
def test_nothing_else_is_sent(client, name):
    assert client.get(f"/web/{name}").status_code == 404


def test_scripts_share_one_scope_without_naming_two_things_alike(scripts):
    defined = re.compile(r"^(?:async )?(?:function|const|let|class) (\w+)", re.M)
    names = Counter(name for text in scripts.values() for name in defined.findall(text))
    assert [name for name, count in names.items() if count > 1] == []


def test_scripts_write_no_markup_and_ask_nobody_else(scripts):
    for name, script in scripts.items():
        # The name of SVG is an address that nobody asks.
        text = script.replace("http://www.w3.org/2000/svg", "")
        for sign in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "://",
        ):
            assert sign not in text, f"{name}: {sign}"
