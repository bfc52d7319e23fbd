"""The page of a running server in a real browser: by mouse, by keyboard alone, on a desk and on a phone."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from gammascope import __version__

CHROMIUM = shutil.which("chromium") or ""
PICTURES = Path(__file__).parents[2] / "examples" / "pictures"
SPLICED = PICTURES / "rocket_spliced.jpg"
CAT = PICTURES / "cat_untouched.jpg"
HOSTILE = "<img src=x onerror=window.hit=1>\u202e.jpg"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium"),
]


@contextmanager
def running(*arguments) -> Iterator[str]:
    """A server in a process of its own; gives its address."""
    command = [sys.executable, "-c", "from gammascope.cli.app import main; main()", "serve"]
    command += ["--port", "0", "--results", "memory", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    # A pipe that nobody reads would fill up with the log, and stop the server.
    with tempfile.NamedTemporaryFile("w+") as log:
        with subprocess.Popen(command, stderr=log, env=environment) as process:
            try:
                yield address_in(Path(log.name), process)
            finally:
                process.terminate()
                process.wait(timeout=60)
        assert process.returncode == 0


def address_in(log: Path, process: subprocess.Popen[bytes]) -> str:
    for _ in range(1800):
        found = re.search(r"http://\S+/", log.read_text("utf-8"))
        if found:
            return found.group()
        assert process.poll() is None, log.read_text("utf-8")
        time.sleep(0.1)
    raise AssertionError("the server did not start")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    """The embedded detector with thresholds by which every picture is edited and none generated."""
    from gammascope import checkpoints
    from gammascope.weights import embedded_path

    path = tmp_path_factory.mktemp("weights") / "decided.safetensors"
    shutil.copy(embedded_path(), path)
    known = checkpoints.read_facts(path).calibration
    bounds = {"generated": (98.0, 99.0), "edited": (-99.0, -98.0)}
    checkpoints.recalibrate(
        path,
        {
            question: replace(known[question], uncertain_from=low, fake_from=high)
            for question, (low, high) in bounds.items()
        },
    )
    return str(path)


@pytest.fixture(scope="module")
def address(weights):
    with running("--limit", "file_bytes=400000", "--weights", weights) as found:
        yield found


@contextmanager
def opened(browser, address, allowed=(), **options):
    """The page; afterwards no error, no console message but those allowed, no request elsewhere."""
    context = browser.new_context(accept_downloads=True, reduced_motion="reduce", **options)
    context.set_default_timeout(60_000)
    page = context.new_page()
    problems: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda asked: requests.append(asked.url))
    page.goto(address)
    yield page
    assert page.evaluate("window.hit") is None
    context.close()
    assert [text for text in problems if not any(part in text for part in allowed)] == []
    own = (address, "blob:", "data:")
    assert [url for url in requests if not url.startswith(own)] == []


@pytest.fixture
def page(browser, address):
    with opened(browser, address, viewport={"width": 1280, "height": 860}) as found:
        yield found


def examined(page, number=1):
    """Wait until the first so many pictures have an answer; two are sent at a time, and the later may be first."""
    for place in range(1, number + 1):
        page.locator(f"#history li:nth-child({place})[data-state=done]").wait_for()


def shown_layers(page) -> list[str]:
    return page.eval_on_selector_all(
        "#stage .marked .layer",
        "all => all.filter(one => one.offsetWidth).map(one => one.dataset.layer)",
    )


def painted(page, layer: str) -> float:
    """Share of a layer's pixels that are not clear."""
    return page.eval_on_selector(
        f"#stage .layer.{layer}",
        """one => {
          const data = one.getContext("2d").getImageData(0, 0, one.width, one.height).data;
          let count = 0;
          for (let index = 3; index < data.length; index += 4) count += data[index] > 0;
          return count / (one.width * one.height);
        }""",
    )


def test_a_chosen_picture_gets_verdict_numbers_evidence_and_caveats(page):
    page.set_input_files("#choose", str(SPLICED))
    examined(page)
    assert page.locator("#result-name").inner_text() == "rocket_spliced.jpg"
    panel = page.get_by_role("region", name="Findings").inner_text()
    for words in (
        "AI-generated pixels",
        "Was edited",
        "Likely edited: a part has another history than the rest. It was pasted, painted or processed by itself.",
        "uncertain from",
        "What they rest on",
        "of the examined pixels look edited",
        "What this cannot tell you",
        "640 \N{MULTIPLICATION SIGN} 427 pixels",
    ):
        assert words in panel, words
    assert "Was edited: Edited" in page.locator("#said").inner_text()


def test_the_mask_lies_over_the_picture_and_obeys_toggle_and_slider(page):
    page.set_input_files("#choose", str(SPLICED))
    examined(page)
    assert shown_layers(page) == ["edited"]
    assert 0.001 < painted(page, "edited") < 0.9
    layer = page.locator("#stage .layer.edited")
    assert layer.evaluate("one => one.tagName") == "CANVAS"
    places = "all => all.map(one => JSON.stringify(one.getBoundingClientRect()))"
    assert (
        len(
            set(
                page.eval_on_selector_all(
                    "#stage .marked .box > .photo, .layer:not([hidden])", places
                )
            )
        )
        == 1
    )
    slider = page.get_by_label("Overlay opacity")
    for percent in (20, 90):
        slider.fill(str(percent))
        opacity = float(layer.evaluate("one => getComputedStyle(one).opacity"))
        assert opacity == pytest.approx(percent / 100)
    page.get_by_role("group", name="Overlays").get_by_role("button", name="None").click()
    assert shown_layers(page) == []
    page.keyboard.press("o")
    assert shown_layers(page) == ["edited"]


def test_a_file_that_is_no_picture_says_why(browser, address):
    refused = ("status of 415", "status of 422")
    with opened(browser, address, refused) as page:
        files = [
            {"name": HOSTILE, "mimeType": "image/jpeg", "buffer": b"no picture"},
            {"name": "half.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\n broken"},
        ]
        page.set_input_files("#choose", files)
        page.locator("#history li[data-state=failed] >> nth=1").wait_for()
        assert "Not examined" in page.locator("#history li >> nth=0").inner_text()
        problem = page.locator("#problem").inner_text()
        assert "no picture of a known format" in problem
        assert "known: JPEG, PNG" in problem
        assert page.locator("#result-name").inner_text().startswith("<img src=x onerror")
        page.locator("#history .entry >> nth=1").click()
        assert "The picture is broken" in page.locator("#problem").inner_text()
        assert not page.get_by_role("button", name="Try again").count(), "it would be broken again"


def test_a_server_that_cannot_be_reached_can_be_tried_again(browser, address):
    with opened(browser, address, ("ERR_INTERNET_DISCONNECTED",)) as page:
        page.context.set_offline(True)
        page.set_input_files("#choose", str(CAT))
        page.get_by_text("The server cannot be reached.").last.wait_for()
        page.context.set_offline(False)
        page.get_by_role("button", name="Try again").focus()
        page.keyboard.press("Enter")
        examined(page)
        assert page.evaluate("document.activeElement.id") == "result-name", "the button is gone"


def test_a_file_that_is_too_large_is_not_even_sent(page):
    sent: list[str] = []
    page.on("request", lambda asked: sent.append(asked.method))
    page.get_by_text("up to 0.4 MB").wait_for()
    large = {"name": "large.png", "mimeType": "image/png", "buffer": bytes(500_000)}
    page.set_input_files("#choose", large)
    page.locator("#history li[data-state=failed]").wait_for()
    assert "More than the 0.4 MB that this server takes." in page.locator("#problem").inner_text()
    assert "POST" not in sent


def test_a_busy_server_is_asked_again_until_it_answers(browser):
    small = ("--limit", "files=1", "--limit", "queue_files=1")
    with running(*small) as busy, opened(browser, busy, ("status of 429",)) as page:
        # Large enough to be in the way of each other.
        page.set_input_files("#choose", [large_picture(seed) for seed in range(4)])
        page.locator("#history li[data-state=busy]").first.wait_for()
        assert "The server is busy: next try in" in page.locator("#history").inner_text()
        for number in range(1, 5):
            examined(page, number)


def large_picture(seed: int) -> dict[str, Any]:
    pixels = np.random.default_rng(seed).integers(0, 255, (1500, 1500, 3), dtype=np.uint8)
    data = io.BytesIO()
    PIL.Image.fromarray(pixels).save(data, "JPEG", quality=80)
    return {"name": f"noise {seed}.jpg", "mimeType": "image/jpeg", "buffer": data.getvalue()}


def test_history_report_and_clearing(page):
    page.set_input_files("#choose", [str(SPLICED), str(CAT)])
    examined(page, 1)
    examined(page, 2)
    page.locator("#history .entry >> nth=1").click()
    assert page.locator("#result-name").inner_text() == CAT.name
    with page.expect_download() as download:
        page.get_by_role("button", name="Download report").click()
    assert download.value.suggested_filename == f"{CAT.name}.report.json"
    report = json.loads(Path(download.value.path()).read_text("utf-8"))
    assert (report["image"], report["width"]) == (CAT.name, 451)
    assert report["answers"].keys() == {"generated", "edited"}
    assert all("mask" not in item for item in report["evidence"])
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all").click()
    every = json.loads(Path(download.value.path()).read_text("utf-8"))
    assert [row["image"] for row in every] == [SPLICED.name, CAT.name]
    page.get_by_role("button", name="Clear").click()
    assert not page.locator("#visit").is_visible()


def test_keyboard_alone(page):
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "choose-button":
            break
    assert page.evaluate("document.activeElement.id") == "choose-button"
    # The driver learns of the browser's own dialog a moment after it was told to listen for it.
    dialogs: list[Any] = []
    page.on("filechooser", lambda one: dialogs.append(one))  # noqa: PLW0108 - the driver marks what it is given
    page.wait_for_timeout(300)
    for number in (1, 2):
        page.keyboard.press("Enter")
        page.wait_for_timeout(300)
        assert len(dialogs) == number, "each press opens one dialog"
    dialogs[-1].set_files([str(SPLICED), str(CAT)])
    examined(page, 2)
    page.locator("#history .entry >> nth=0").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("#result-name").inner_text() == CAT.name
    page.keyboard.press("ArrowUp")
    assert page.locator("#result-name").inner_text() == SPLICED.name
    page.keyboard.press("o")
    assert shown_layers(page) == []
    page.keyboard.press("+")
    assert page.locator("#zoom-level").inner_text() == "1.5\N{MULTIPLICATION SIGN}"
    reached = set()
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.id || document.activeElement.dataset.mode")
        )
    assert {"opacity", "panel", "download", "overlay", "side", "swipe"} <= reached


def test_pictures_can_be_dropped_and_pasted(page):
    give = """([kind, bytes]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], "given.jpg", { type: "image/jpeg" }));
      const options = { bubbles: true, cancelable: true };
      if (kind === "paste") dispatchEvent(new ClipboardEvent("paste", { ...options, clipboardData: data }));
      else for (const name of ["dragenter", "dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(name, { ...options, dataTransfer: data }));
      }
    }"""
    content = list(CAT.read_bytes())
    for number, kind in enumerate(("drop", "paste"), start=1):
        page.evaluate(give, [kind, content])
        examined(page, number)
    assert page.locator("#history .entry-name").all_inner_texts() == ["given.jpg", "given.jpg"]
    assert not page.locator("#drop.over").count()


def test_a_key_is_asked_for_where_one_is_needed(browser, tmp_path):
    from gammascope.server.access import new_key

    key, entry = new_key("visitor")
    (tmp_path / "keys.toml").write_text(entry)
    with (
        running("--keys", str(tmp_path / "keys.toml")) as locked,
        opened(browser, locked, ("status of 401",)) as page,
    ):
        page.get_by_label("This server asks for an API key").wait_for()
        page.set_input_files("#choose", str(CAT))
        page.locator("#history li[data-state=failed]").wait_for()
        page.get_by_label("This server asks for an API key").fill("gs_wrong")
        page.keyboard.press("Enter")
        page.locator("#key[aria-invalid=true]").wait_for()
        page.get_by_label("This server asks for an API key").fill(key)
        page.keyboard.press("Enter")
        examined(page)
        page.locator("#key-form").wait_for(state="hidden")


def test_a_second_key_while_the_first_is_being_checked(browser, tmp_path):
    from gammascope.server.access import new_key

    key, entry = new_key("visitor")
    (tmp_path / "keys.toml").write_text(entry)
    with (
        running("--keys", str(tmp_path / "keys.toml")) as locked,
        opened(browser, locked, ("status of 401",)) as page,
    ):
        field = page.get_by_label("This server asks for an API key")
        field.wait_for()
        held: list[Any] = []
        page.route("**/v1/methods", lambda one: held.append(one))  # noqa: PLW0108 - the driver marks what it is given
        field.fill("gs_wrong")
        field.press("Enter")
        field.fill(key[:5])
        while not held:
            page.wait_for_timeout(20)
        with page.expect_response("**/v1/methods"):
            held.pop().continue_()
        page.locator("#key[aria-invalid=true]").wait_for()
        page.keyboard.type(key[5:])
        assert field.input_value() == key, "the refusal must not select what is being typed"
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        page.set_input_files("#choose", str(CAT))
        while len(held) < 2:
            page.wait_for_timeout(20)
        for route in held:
            route.continue_()
        examined(page)
        page.locator("#key-form").wait_for(state="hidden")
        assert page.locator("#history li").count() == 1


def test_a_list_that_was_cleared_stays_cleared(page):
    page.set_input_files("#choose", str(SPLICED))
    page.locator("#history li").wait_for()
    page.get_by_role("button", name="Clear").click()
    page.set_input_files("#choose", str(CAT))
    examined(page)
    page.wait_for_timeout(300)
    assert page.locator("#history .entry-name").all_inner_texts() == [CAT.name]
    assert page.locator("#result-name").inner_text() == CAT.name
    assert SPLICED.name not in page.locator("#said").inner_text()


def test_a_format_that_the_browser_cannot_show_is_examined_all_the_same(page):
    data = io.BytesIO()
    PIL.Image.open(CAT).crop((0, 0, 200, 150)).save(data, "TIFF")
    content = {"name": "scan.tif", "mimeType": "image/tiff", "buffer": data.getvalue()}
    page.set_input_files("#choose", content)
    examined(page)
    page.get_by_text("This browser cannot show this format.").last.wait_for()
    assert "AI-generated pixels" in page.locator("#panel").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_on_a_phone(browser, address, scheme):
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": scheme}
    with opened(browser, address, **phone) as page:
        wide = "document.documentElement.scrollWidth - innerWidth"
        assert page.evaluate(wide) <= 0
        page.set_input_files("#choose", [str(SPLICED), str(CAT)])
        examined(page, 2)
        assert page.evaluate(wide) <= 0
        page.locator("#history .entry >> nth=0").click()
        page.wait_for_function(
            "document.getElementById('result').getBoundingClientRect().top < 300"
        )


def test_everything_that_can_be_used_has_a_name(page):
    page.set_input_files("#choose", str(SPLICED))
    examined(page)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, progress, [role=region], img.photo")]
          .filter((one) => one.offsetWidth)
          .filter((one) => !(one.textContent.trim() || one.getAttribute("aria-label") || one.alt ||
            (one.labels && one.labels.length)))
          .map((one) => one.outerHTML)"""
    )
    assert nameless == []
    assert page.locator("h1").count() == 1
    assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_focus_can_be_seen_in_every_state(
    browser, address, low_contrast, unmarked_focus, scheme
):
    wide = {"viewport": {"width": 1280, "height": 900}, "color_scheme": scheme}
    with opened(browser, address, ("status of 415",), **wide) as page:
        assert low_contrast(page) == []
        page.set_input_files("#choose", [str(SPLICED), str(CAT)])
        assert low_contrast(page) == [], "on the way"
        examined(page, 2)
        assert low_contrast(page) == []
        assert unmarked_focus(page, 20) == []
        page.set_input_files(
            "#choose", {"name": "no.jpg", "mimeType": "image/jpeg", "buffer": b"no"}
        )
        page.locator("#history li[data-state=failed] .entry").click()
        assert low_contrast(page) == []


@pytest.fixture(scope="module")
def edited_in_part(composite) -> dict[str, Any]:
    """A photo that was saved as JPEG twice, but for a part that was saved once."""
    return {"name": "cup.jpg", "mimeType": "image/jpeg", "buffer": composite}


@pytest.fixture(scope="module")
def two(weights):
    """Two detectors that look at all of a picture, and for parts with another history."""
    both = ("--weights", weights, "--weights", "mobilenet")
    with running(*both, "--profile", "thorough", "--limit", "answer_seconds=600") as found:
        yield found


@pytest.mark.parametrize("size", [(1366, 768), (390, 844)], ids=["desk", "phone"])
def test_two_detectors_stand_side_by_side_each_with_its_maps(browser, two, edited_in_part, size):
    viewport = {"width": size[0], "height": size[1]}
    with opened(browser, two, viewport=viewport) as page:
        page.set_input_files("#choose", [edited_in_part])
        examined(page)
        panel = page.get_by_role("region", name="Findings")
        heads = panel.locator("article.opinion > h3:first-child").all_text_contents()
        assert heads == ["Detector decided", "Detector mobilenet"]
        assert "The detectors differ on “Was edited”: decided says “Edited”" in panel.inner_text()
        assert (
            "lacks a JPEG compression that the rest of the picture went through"
            in panel.inner_text()
        )
        assert panel.get_by_text("Parts with another history").count() == 1
        thresholds = panel.locator("article .number").all_inner_texts()
        assert len(set(thresholds)) == 4, "each detector has its own"
        assert page.locator("#history .entry-opinion").count() == 2
        assert "Detectors differ" in page.locator("#history").inner_text()
        shown = shown_layers(page)
        assert "edited@decided" in shown
        waiting = {"generated@decided", "forensics:quantisation@decided"}
        assert not waiting & set(shown)
        for layer in sorted(waiting):
            page.locator(f'#layer-toggles button[data-layer="{layer}"]').click()
        assert waiting <= set(shown_layers(page))
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        outside = """() => { const room = document.querySelector(".viewer").getBoundingClientRect().right;
          return [...document.querySelectorAll("#tools button")]
            .filter(one => one.getBoundingClientRect().right > room + 1).map(one => one.textContent); }"""
        assert page.evaluate(outside) == []


def test_one_page_is_printed_with_map_detectors_and_version(browser, two, edited_in_part):
    with opened(browser, two, viewport={"width": 1366, "height": 768}) as page:
        assert page.locator("#print").is_disabled(), "nothing to print yet"
        page.set_input_files("#choose", [edited_in_part])
        examined(page)
        page.evaluate("() => { window.print = () => { window.calledPrint = true; }; }")
        page.get_by_role("button", name="Print").click()
        assert page.evaluate("window.calledPrint") is True
        for paper in ("A4", "Letter"):
            document = page.pdf(format=paper)
            assert len(re.findall(rb"/Type\s*/Page\b", document)) == 1
            assert b"/Subtype /Image" in document, "the picture is on it"
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        sheet = page.locator("#sheet")
        said = sheet.text_content()
        assert "Profilethorough" in said, said
        row = page.evaluate("visit.current.report")
        for opinion in (row, row["second_opinions"][0]):
            assert opinion["weights_sha256"] in said
        assert f"gammascope {__version__}" in said
        assert (
            "Likely edited: a part has another history than the rest. It was pasted, painted or processed by itself."
            in said
        )
        assert "Overlay: Edited · decided" in said
        layers = sheet.locator(".print-box .layer")
        assert layers.count() == len(shown_layers(page))
        ready = "one => one.decode().then(() => one.naturalWidth > 1)"
        assert layers.first.evaluate(ready) is True
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert sheet.count() == 0


def test_a_map_beside_no_sign_is_there_and_waits_for_a_click(page):
    page.set_input_files("#choose", str(CAT))
    examined(page)
    assert shown_layers(page) == ["edited"]
    button = page.locator('#layer-toggles button[data-layer="generated"]')
    assert "shown on request; nothing stood out" in button.inner_text()
    button.click()
    assert shown_layers(page) == ["generated", "edited"]
    assert "Generated: shown on request" in page.locator("#map-key").inner_text()


def test_what_is_downloaded_holds_every_opinion_and_no_masks(browser, two, edited_in_part):
    with opened(browser, two) as page:
        page.set_input_files("#choose", [edited_in_part])
        examined(page)
        with page.expect_download() as download:
            page.get_by_role("button", name="Download report").click()
        report = json.loads(Path(download.value.path()).read_text("utf-8"))
        assert report["version"] == __version__
        assert [one["detector"] for one in report["second_opinions"]] == ["mobilenet"]
        assert '"mask"' not in json.dumps(report)


def test_a_picture_that_the_browser_cannot_show_is_printed_in_words(page):
    data = io.BytesIO()
    PIL.Image.open(CAT).crop((0, 0, 200, 150)).save(data, "TIFF")
    content = {"name": "scan.tif", "mimeType": "image/tiff", "buffer": data.getvalue()}
    page.set_input_files("#choose", content)
    examined(page)
    page.get_by_text("This browser cannot show this format.").last.wait_for()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert "This browser cannot show this format." in page.locator("#sheet").text_content()
    assert page.locator("#sheet .print-box > img:not(.layer)").count() == 0
