"""The written page in a real browser: what an investigator does with it, by mouse and by keyboard alone."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from gammascope.pages.report_page import FailedRow, PageRow, write_report
from gammascope.report import FORMAT, Answer, Evidence, Recheck, Report, Strength, Tile, Verdict

CHROMIUM = shutil.which("chromium") or ""
HOSTILE = "<img src=x onerror=window.hit=1></script x><script>window.hit=1</script >.jpg"
THRESHOLDS = {"generated": (0.35, 0.8), "edited": (0.4, 0.75)}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium"),
]


def verdict_of(probability: float, thresholds: tuple[float, float]) -> Verdict:
    if probability < thresholds[0]:
        return Verdict.NO_SIGN
    return Verdict.FAKE if probability >= thresholds[1] else Verdict.UNCERTAIN


def row(name, pixels, generated, edited, caveats=(), calibrated=True) -> PageRow:
    height, width = pixels.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    maps = {
        "generated": generated * (columns < width // 2),
        "edited": edited * (rows < height // 2),
    }
    maps["edited"][:, : width // 8] = np.nan
    chances = {"generated": generated, "edited": edited}
    answers = {
        kind: Answer(chance, verdict_of(chance, THRESHOLDS[kind]), THRESHOLDS[kind])
        for kind, chance in chances.items()
    }
    evidence = tuple(
        Evidence(f"mask:{kind}", f"{kind} region", area.astype(np.float32))
        for kind, area in maps.items()
    )
    size = (width, height)
    report = Report(name, size, "gamma", "ab" * 32, calibrated, answers, evidence, caveats)
    return PageRow(report, pixels)


@pytest.fixture(scope="module")
def report_path(tmp_path_factory):
    rows: list[PageRow | FailedRow] = [
        row("holiday/cat.jpg", data.chelsea(), 0.05, 0.1, calibrated=False),
        row("press/astronaut.jpg", data.astronaut(), 0.95, 0.9, ("Saved at least twice.",)),
        row("press/coffee.jpg", data.coffee(), 0.5, 0.2, ("Small.", "Blurred.")),
        FailedRow("press/broken.jpg", "Not a complete JPEG."),
        row(HOSTILE, data.rocket(), 0.2, 0.8),
    ]
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(
        rows,
        path,
        title=HOSTILE,
        summary={"Folder": HOSTILE},
        written=datetime(2026, 1, 2, tzinfo=UTC),
    )
    return path


@pytest.fixture(params=[{"width": 1280, "height": 800}], ids=["wide"])
def page(request, browser, report_path):
    """The opened page; afterwards, no console message, no error and no request but for the file."""
    context = browser.new_context(
        viewport=request.param, accept_downloads=True, reduced_motion="reduce"
    )
    opened = context.new_page()
    problems: list[str] = []
    requests: list[str] = []
    opened.on("console", lambda message: problems.append(message.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("request", lambda asked: requests.append(asked.url))
    opened.goto(report_path.as_uri())
    yield opened
    assert opened.evaluate("window.hit") is None
    context.close()
    assert problems == []
    own = {report_path.as_uri()}
    assert [
        url for url in requests if url not in own and not url.startswith(("data:", "blob:"))
    ] == []


narrow = pytest.mark.parametrize(
    "page", [{"width": 390, "height": 844}], indirect=True, ids=["narrow"]
)


def names(page) -> list[str]:
    return page.locator("#rows .name bdi").all_inner_texts()


def shown_layers(page) -> list[str]:
    return page.eval_on_selector_all(
        "#stage .marked .layer",
        "all => all.filter(one => one.offsetWidth).map(one => one.dataset.layer)",
    )


def test_the_most_suspicious_come_first_and_names_are_only_text(page):
    assert names(page) == [
        "press/astronaut.jpg",
        HOSTILE,
        "press/coffee.jpg",
        "holiday/cat.jpg",
        "press/broken.jpg",
    ]
    assert page.locator("h1").inner_text() == HOSTILE
    cell = page.locator("#rows tr").first.locator("td.answer").first.inner_text()
    assert "Fake" in cell
    assert "0.95 ≥ 0.80" in cell
    assert "Not a complete JPEG." in page.locator("#rows tr.failed").inner_text()


def test_sorting_by_column_and_by_menu(page):
    by_edited = page.get_by_role("columnheader", name="Was edited")
    by_edited.get_by_role("button").click()
    assert names(page)[:2] == ["press/astronaut.jpg", HOSTILE]
    assert by_edited.get_attribute("aria-sort") == "descending"
    by_edited.get_by_role("button").click()
    assert names(page)[1:3] == ["holiday/cat.jpg", "press/coffee.jpg"]
    assert by_edited.get_attribute("aria-sort") == "ascending"
    page.get_by_label("Sort by").select_option("name")
    assert names(page)[1:3] == ["holiday/cat.jpg", "press/astronaut.jpg"]
    page.get_by_label("Sort by").select_option("caveats")
    assert names(page)[0] == "press/coffee.jpg"


def test_filters_by_name_verdict_caveat_and_failure(page):
    page.get_by_label("Name contains").fill("PRESS/")
    assert names(page) == ["press/astronaut.jpg", "press/coffee.jpg", "press/broken.jpg"]
    assert page.locator("#shown").inner_text() == "3 of 5 files"
    page.get_by_label("Only with caveats").check()
    assert names(page) == ["press/astronaut.jpg", "press/coffee.jpg"]
    page.get_by_role("button", name="Reset").click()
    assert len(names(page)) == 5
    uncertain = page.get_by_role("button", name="AI-generated pixels: Uncertain, 1")
    uncertain.click()
    assert names(page) == ["press/coffee.jpg"]
    assert uncertain.get_attribute("aria-pressed") == "true"
    uncertain.click()
    page.get_by_role("button", name="Not examined: 1").click()
    assert names(page) == ["press/broken.jpg"]
    page.locator("#question-filters select").nth(1).select_option("fake")
    assert names(page) == ["press/astronaut.jpg", HOSTILE]
    page.get_by_label("Name contains").fill("nothing is called so")
    assert page.get_by_text("No picture matches these filters.").is_visible()


def test_the_detail_says_verdict_thresholds_caveats_limits_and_origin(page):
    page.get_by_role("button", name="press/coffee.jpg").click()
    panel = page.get_by_role("region", name="Findings").inner_text()
    for sentence in (
        "Uncertain whether it contains AI-generated pixels.",
        "The method does not decide",
        "uncertain from 0.35, fake from 0.80",
        "No sign of editing.",
        "Blurred.",
        "generated region",
        "% of the picture was examined",
        "What this cannot tell you",
        "ab" * 32,
        "2026-01-02",
    ):
        assert sentence in panel, sentence


def test_an_uncalibrated_number_is_no_probability(page):
    page.get_by_role("button", name="holiday/cat.jpg").click()
    panel = page.get_by_role("region", name="Findings").inner_text()
    assert "Not calibrated" in panel
    assert "Score 0.05" in panel
    assert "Probability" not in panel


def test_overlays_follow_verdicts_toggles_and_opacity(page):
    page.get_by_role("button", name="press/astronaut.jpg").click()
    assert shown_layers(page) == ["generated", "edited", "unexamined"]
    layer = page.locator("#stage .layer.generated")
    slider = page.get_by_label("Overlay opacity")
    for percent in (20, 90):
        slider.fill(str(percent))
        assert float(layer.evaluate("one => getComputedStyle(one).opacity")) == pytest.approx(
            percent / 100
        )
    toggles = page.get_by_role("group", name="Overlays")
    toggles.get_by_role("button", name="Generated").click()
    assert shown_layers(page) == ["edited", "unexamined"]
    toggles.get_by_role("button", name="None").click()
    assert shown_layers(page) == ["unexamined"]
    page.keyboard.press("o")
    assert shown_layers(page) == ["edited", "unexamined"]


def test_where_nothing_was_found_no_overlay_is_shown_until_asked_for(page):
    page.get_by_role("button", name="holiday/cat.jpg").click()
    assert shown_layers(page) == ["unexamined"]
    page.keyboard.press("o")
    assert shown_layers(page) == ["generated", "edited", "unexamined"]


def test_overlays_lie_on_the_picture_in_every_mode_and_zoom(page):
    page.get_by_role("button", name="press/astronaut.jpg").click()
    places = "all => all.map(one => JSON.stringify(one.getBoundingClientRect()))"
    for mode, panes in (("Overlay", 1), ("Side by side", 2), ("Swipe", 2)):
        page.get_by_role("button", name=mode).click()
        for _ in range(2):
            assert len(set(page.eval_on_selector_all("#stage .marked img", places))) == 1
            page.get_by_role("button", name="Zoom in").click()
        assert page.locator("#stage .pane:visible").count() == panes
        assert page.locator("#zoom-level").inner_text() == "2.3\N{MULTIPLICATION SIGN}"
        page.keyboard.press("0")
    page.get_by_label("Swipe between plain and overlay").fill("25")
    assert "25%" in page.locator("#stage .marked").evaluate("one => getComputedStyle(one).clipPath")


def test_keyboard_alone(page):
    page.locator("#rows .open").first.focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent") == HOSTILE
    page.keyboard.press("Enter")
    heading = page.locator("#detail-name")
    assert heading.inner_text() == HOSTILE
    page.keyboard.press("ArrowRight")
    assert heading.inner_text() == "press/coffee.jpg"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert heading.inner_text() == "press/astronaut.jpg"
    page.get_by_label("Overlay opacity").focus()
    page.keyboard.press("ArrowRight")
    assert heading.inner_text() == "press/astronaut.jpg", (
        "arrows move a focused slider, not the list"
    )
    assert page.get_by_label("Overlay opacity").input_value() == "71"
    page.keyboard.press("Escape")
    assert not page.locator("#detail").is_visible()
    assert focused(page) == "press/astronaut.jpg"


def focused(page) -> str:
    return page.evaluate("document.activeElement.textContent")


def test_a_picture_opened_while_the_last_one_is_closing_stays_open(page):
    page.locator("#rows .open").first.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    # In one task, as keys typed faster than the browser says that the dialog is closed.
    page.evaluate("byId('close').click(); document.activeElement.click()")
    page.wait_for_timeout(100)
    heading = page.locator("#detail-name")
    assert heading.inner_text() == HOSTILE, "the focus was on the row that was looked at last"
    page.keyboard.press("ArrowRight")
    assert heading.inner_text() == "press/coffee.jpg"
    page.keyboard.press("Escape")
    assert focused(page).endswith("coffee.jpg"), "at once"
    page.keyboard.press("Enter")
    assert heading.inner_text() == "press/coffee.jpg"
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert not page.locator("#detail").is_visible()


def test_a_key_that_is_held_down_acts_once(page):
    page.locator("#rows .open").first.focus()
    page.keyboard.press("Enter")
    page.locator("#close").focus()
    for _ in range(3):
        page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    page.wait_for_timeout(100)
    assert not page.locator("#detail").is_visible()


def test_enter_opens_whatever_text_is_selected(page):
    page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
    page.locator("#rows .open").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#detail").is_visible()


def test_the_button_that_steps_keeps_the_focus_until_it_leads_nowhere(page):
    page.locator("#rows .open").first.focus()
    page.keyboard.press("Enter")
    page.locator("#next").focus()
    for name in (HOSTILE, "press/coffee.jpg", "holiday/cat.jpg"):
        page.keyboard.press("Enter")
        assert page.locator("#detail-name").inner_text() == name
        assert page.locator("#position").inner_text().endswith(name)
    assert page.locator("#next").is_disabled()
    assert page.evaluate("document.activeElement.id") == "detail-name"


def test_the_download_holds_the_shown_reports(page, report_path):
    page.get_by_label("Name contains").fill("press")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSON").click()
    exported = json.loads(Path(download.value.path()).read_text("utf-8"))
    astronaut = row("press/astronaut.jpg", data.astronaut(), 0.95, 0.9, ("Saved at least twice.",))
    assert exported.keys() == {"format", "title", "written", "rows", "failed"}
    assert exported["format"] == FORMAT
    assert exported["rows"][0] == astronaut.report.to_json()
    assert [line["image"] for line in exported["rows"]] == [
        "press/astronaut.jpg",
        "press/coffee.jpg",
    ]
    assert exported["failed"] == [{"image": "press/broken.jpg", "reason": "Not a complete JPEG."}]


SIGNED = Evidence(
    "provenance:c2pa", "Intact.", strength=Strength.STRONG, limits="Not who signed it."
)
SETTINGS = Evidence(
    "provenance:generator",
    "Settings, prompt “<b>a cat</b>\u202e”.",
    strength=Strength.MODERATE,
    limits="Anyone can write them.",
)
NOTHING = Evidence("provenance:none", "Nothing.", strength=Strength.NEUTRAL, limits="No proof.")


@pytest.fixture(scope="module")
def told_path(tmp_path_factory):
    """A page whose rows carry findings about their files, tiles, and rechecks."""
    plain = row("plain.jpg", data.coffee(), 0.2, 0.1)
    told = row('=told, "twice".jpg', data.chelsea(), 0.5, 0.1, ("Small.",))
    boxes = [(left, top, 200.0, 200.0) for top in (0.0, 100.0) for left in (0.0, 125.0, 251.0)]
    tiles = tuple(
        Tile(box, {"generated": number / 10, "edited": 0.9}) for number, box in enumerate(boxes)
    )
    kept = Recheck("saved as JPEG at quality 80", told.report.answers, holds=True)
    moved = told.report.answers | {
        "generated": Answer(0.1, Verdict.NO_SIGN, THRESHOLDS["generated"])
    }
    lost = Recheck("reduced to half its size", moved, holds=False)
    reports = (
        replace(plain.report, evidence=(*plain.report.evidence, NOTHING), stability=(kept,)),
        replace(
            told.report,
            evidence=(*told.report.evidence, SIGNED, SETTINGS),
            tiles=tiles,
            stability=(kept, lost),
        ),
    )
    rows = [
        PageRow(report, one.preview) for report, one in zip(reports, (plain, told), strict=True)
    ]
    path = tmp_path_factory.mktemp("told") / "report.html"
    write_report(
        [*rows, FailedRow("broken.jpg", "Empty file.")], path, title="Told", profile="thorough"
    )
    return path


@pytest.fixture
def told(browser, told_path):
    """The page with findings; afterwards, no console message and no error."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, accept_downloads=True, reduced_motion="reduce"
    )
    opened = context.new_page()
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.goto(told_path.as_uri())
    yield opened
    context.close()
    assert problems == []


def test_findings_about_the_file_stand_apart_with_strength_and_limits(told):
    told.locator("#rows .open", has_text="told").click()
    panel = told.locator("#panel .provenance")
    lines = [line.inner_text() for line in panel.locator("li").all()]
    assert "Strong" in lines[0]
    assert "Intact." in lines[0]
    assert "Not who signed it." in lines[0]
    assert "Moderate" in lines[1]
    assert "<b>a cat</b>\\u202e" in lines[1], "markup is text, direction marks are codes"
    assert "changes none of them" in panel.inner_text()
    assert "Intact." not in told.locator("#panel section.strong").inner_text()


def test_rows_say_which_files_say_something_and_can_be_filtered(told):
    assert told.locator("#rows .says").all_inner_texts() == [
        "File: Content Credentials, Generation settings"
    ]
    told.get_by_label("Only where the file says something").check()
    assert len(names(told)) == 1
    told.get_by_role("button", name="Reset").click()
    assert len(names(told)) == 3


def test_stability_says_yes_or_what_changes(told):
    told.locator("#rows .open", has_text="told").click()
    section = told.locator("#panel .stability").inner_text()
    assert "No" in section
    assert "They hold when the picture is saved as JPEG at quality 80." in section
    assert "AI-generated pixels becomes “No sign” (0.10 < 0.35)" in section
    told.keyboard.press("Escape")
    told.locator("#rows .open", has_text="plain.jpg").click()
    assert "Yes" in told.locator("#panel .stability h3").inner_text()


def test_tile_scores_lie_over_the_picture_and_meet_halfway(told):
    told.locator("#rows .open", has_text="told").click()
    drawings = told.locator("#stage .marked svg.tiles")
    assert drawings.count() == 2
    assert not drawings.first.is_visible()
    told.get_by_role("button", name="Tiles: generated").click()
    assert drawings.first.is_visible()
    assert not drawings.last.is_visible()
    assert drawings.first.locator("text").all_text_contents()[:3] == ["0.00", "0.10", "0.20"]
    edges = drawings.first.locator("rect").evaluate_all(
        "all => all.map(one => ['x', 'y', 'width', 'height'].map(name => Number(one.getAttribute(name))))"
    )
    assert edges[0] == pytest.approx([0, 0, 162.5, 150], abs=0.1)
    assert edges[1] == pytest.approx([162.5, 0, 125.5, 150], abs=0.1)
    assert sum(width * height for _, _, width, height in edges) == pytest.approx(
        451 * 300, rel=1e-3
    )
    told.get_by_role("button", name="Tiles: edited").click()
    assert drawings.last.is_visible()
    assert not drawings.first.is_visible()
    told.keyboard.press("Escape")
    told.locator("#rows .open", has_text="plain.jpg").click()
    assert not told.locator("#tile-toggles").is_visible()


def test_a_number_close_to_a_threshold_is_not_rounded_onto_it(browser, tmp_path):
    path = tmp_path / "close.html"
    write_report([row("close.jpg", data.chelsea(), 0.3496, 0.751)], path, title="Close")
    page = browser.new_page()
    page.goto(path.as_uri())
    cells = page.locator("#rows .number").all_inner_texts()
    assert cells == ["0.3496 < 0.3500", "0.7510 \N{GREATER-THAN OR EQUAL TO} 0.7500"]
    page.close()


def test_where_it_is_known_how_many_photos_score_as_high_the_list_says_that_instead_of_a_probability(
    browser, tmp_path
):
    close = row("close.jpg", data.chelsea(), 0.3, 0.1)
    seldom = replace(close.report.answers["generated"], as_high=(0.026, 0.82))
    never = replace(close.report.answers["edited"], as_high=(0.0, 0.1))
    report = replace(close.report, answers={"generated": seldom, "edited": never})
    path = tmp_path / "known.html"
    write_report([replace(close, report=report)], path, title="Known")
    page = browser.new_page()
    page.goto(path.as_uri())
    numbers = page.locator("#rows .number")
    assert numbers.all_inner_texts() == ["2.6 % of photos as high", "<0.1 % of photos as high"]
    assert numbers.first.get_attribute("title") == "0.30 < 0.35"
    page.close()


def test_the_list_names_a_part_that_stands_out(browser, tmp_path):
    plain = row("plain.jpg", data.chelsea(), 0.3, 0.1)
    area = np.ones(data.chelsea().shape[:2], np.float32)
    hint = Evidence("forensics:quantisation", "A part.", area, Strength.WEAK)
    silent = Evidence("forensics:quantisation", "Nothing.", strength=Strength.NEUTRAL)
    rows = [
        replace(plain, report=replace(plain.report, image=name, evidence=(one,)))
        for name, one in (("hinted.jpg", hint), ("silent.jpg", silent))
    ]
    path = tmp_path / "hints.html"
    write_report(rows, path, title="Hints")
    page = browser.new_page()
    page.goto(path.as_uri())
    says = page.locator("#rows tr", has_text="hinted.jpg").locator(".says")
    assert says.all_inner_texts() == ["Part: not compressed before"]
    assert page.locator("#rows tr", has_text="silent.jpg").locator(".says").count() == 0
    page.close()


@pytest.fixture
def edited(browser, tmp_path):
    """Pictures with a copy, with settings of a generator, and with too little to judge."""
    found = {"generated": 0.1, "edited": 0.9}
    answers = {
        kind: Answer(chance, verdict_of(chance, THRESHOLDS[kind]), THRESHOLDS[kind])
        for kind, chance in found.items()
    }
    pixels = data.chelsea()
    area = np.zeros(pixels.shape[:2], np.float32)
    area[40:100, 40:100] = area[180:240, 300:360] = 1
    repeats = (((0.15, 0.23), (0.73, 0.7)), ((0.2, 0.9), (0.5, 0.9), (0.8, 0.9)))
    evidence = (
        Evidence("mask:edited", "A part looks edited.", area),
        Evidence("forensics:cloning", "Copies: a part is there twice.", area, repeats=repeats),
        Evidence("forensics:noise", "Noise: a part.", area, Strength.WEAK),
    )
    copied = Report("copied.jpg", (451, 300), "m", "ab" * 32, True, answers, evidence)
    nothing = {"generated": Answer(0.1, Verdict.NO_SIGN, THRESHOLDS["generated"])}
    settings = Evidence("provenance:generator", "Settings.", strength=Strength.MODERATE)
    declared = replace(copied, image="declared.png", answers=nothing, evidence=(settings,))
    unjudged = {"generated": Answer(0.1, Verdict.UNCERTAIN, THRESHOLDS["generated"])}
    tiny = replace(
        copied,
        image="tiny.png",
        answers=unjudged,
        evidence=(),
        caveats=("Too small.",),
        calibrated=False,
    )
    path = tmp_path / "edited.html"
    write_report([PageRow(one, pixels) for one in (copied, declared, tiny)], path, title="Edited")
    page = browser.new_page()
    page.goto(path.as_uri())
    yield page
    page.close()


def opened(page, name: str) -> str:
    page.locator("#rows .open", has_text=name).click()
    return page.get_by_role("region", name="Findings").inner_text()


def test_an_edit_has_a_word_of_its_own_and_what_decides_it_is_no_weak_hint(edited):
    assert edited.locator("#rows tr", has_text="copied.jpg").locator(".chip").all_inner_texts() == [
        "No sign",
        "Edited",
    ]
    assert "Was edited: Edited, 1" in edited.locator("#counts button").nth(3).get_attribute(
        "aria-label"
    )
    panel = opened(edited, "copied.jpg")
    assert "uncertain from 0.40, edited from 0.75" in panel
    grades = edited.locator("#panel .provenance .strength").all_inner_texts()
    assert grades == ["Decides", "Weak"]


def test_what_an_answer_rests_on_is_shown_at_first_and_its_reasons_on_a_click(edited):
    opened(edited, "copied.jpg")
    assert shown_layers(edited) == ["edited"]
    marks = edited.locator("#stage .copies")
    assert marks.is_visible()
    assert marks.locator("text").all_text_contents() == ["1", "1", "2", "2", "2"]
    assert marks.locator("line").count() == 3
    swatches = edited.eval_on_selector_all(
        "#layer-toggles .swatch", "all => all.map(one => getComputedStyle(one).backgroundColor)"
    )
    assert len(set(swatches)) == 3
    toggles = edited.get_by_role("group", name="Overlays")
    toggles.get_by_role("button", name="Other noise").click()
    toggles.get_by_role("button", name="Edited").click()
    assert shown_layers(edited) == ["forensics:noise"]
    assert not marks.is_visible()


def test_a_generator_that_the_file_declares_is_said_beside_no_sign(edited):
    assert "The file itself declares a generator" in opened(edited, "declared.png")
    edited.keyboard.press("Escape")
    assert "declares a generator" not in opened(edited, "copied.jpg")


def test_a_number_that_led_to_no_verdict_is_not_compared_with_thresholds(edited):
    line = edited.locator("#rows tr", has_text="tiny.png")
    assert "Uncertain" in line.inner_text()
    assert line.locator(".number, .bar").count() == 0
    panel = opened(edited, "tiny.png")
    assert "Too small." in panel
    assert "0.1" not in panel.split("What to bear in mind")[0]
    assert "Between the two thresholds" not in panel


def test_the_printed_page_is_a_readable_document(browser, told_path, low_contrast):
    page = browser.new_page(color_scheme="dark")
    page.goto(told_path.as_uri())
    sizes = [len(page.pdf(format="A4"))]
    page.locator("#rows .open", has_text="told").click()
    assert page.pdf(format="A4").startswith(b"%PDF-")
    lay_out_sheet(page)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert low_contrast(page) == []
    assert sizes[0] > 5_000
    page.close()


def test_the_table_download_opens_in_a_spreadsheet(told):
    with told.expect_download() as download:
        told.get_by_role("button", name="Download CSV").click()
    text = Path(download.value.path()).read_text("utf-8-sig")
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [line["image"] for line in lines] == [
        '\'=told, "twice".jpg',
        "plain.jpg",
        "broken.jpg",
    ], "a name that looks like a formula must not be one"
    assert lines[0]["generated verdict"] == "uncertain"
    assert float(lines[0]["edited probability"]) == 0.1
    assert lines[0]["caveats"] == "Small."
    assert lines[0]["findings"].startswith("strong: Intact. moderate: Settings")
    assert [line["holds"] for line in lines] == ["false", "true", ""]
    assert lines[2]["error"] == "Empty file."


def test_what_is_printed_holds_findings_and_no_controls(told):
    told.locator("#rows .open", has_text="told").click()
    lay_out_sheet(told)
    sheet = told.locator("#sheet")
    for said in (
        "Uncertain whether it contains AI-generated pixels.",
        "Small.",
        "Intact.",
        "Settings",
    ):
        assert said in sheet.inner_text()
    assert "Profile\nthorough" in sheet.inner_text()
    for fact in ("gammascope", "ab" * 32, "Report written", "What this cannot tell you"):
        assert fact in sheet.inner_text()
    assert sheet.locator(".print-box img").first.is_visible()
    for hidden in ("#tile-toggles", "#layer-toggles", "#download", "#close", "#list"):
        assert not told.locator(hidden).is_visible()
    assert told.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    told.evaluate("dispatchEvent(new Event('afterprint'))")
    assert sheet.count() == 0


def lay_out_sheet(page) -> None:
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")


def pages_of(document: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", document))


def printed_path(tmp_path, one: PageRow) -> Path:
    path = tmp_path / "printed.html"
    write_report([one, row("other.jpg", data.coffee(), 0.5, 0.2)], path, title="Printed")
    return path


def talkative(findings: int) -> PageRow:
    one = row("talkative.jpg", data.rocket()[:, :200], 0.95, 0.9, ("Small.",) * 3)
    said = tuple(
        Evidence(
            "provenance:generator",
            f"Finding {number}: {'a long statement about settings ' * 6}.",
            strength=Strength.MODERATE,
            limits="Anyone can write it. " * 6,
        )
        for number in range(findings)
    )
    return replace(one, report=replace(one.report, evidence=(*one.report.evidence, *said)))


@pytest.mark.parametrize("size", ["A4", "Letter"])
@pytest.mark.parametrize("findings", [0, 3, 60])
def test_a_picture_is_one_page_of_paper_however_much_is_said(browser, tmp_path, size, findings):
    page = browser.new_page()
    page.goto(printed_path(tmp_path, talkative(findings)).as_uri())
    page.locator("#rows .open", has_text="talkative").click()
    document = page.pdf(format=size)
    assert pages_of(document) == 1
    assert b"/Subtype /Image" in document, "the picture is on it"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    left_out = page.locator("#sheet .print-left-out")
    assert bool(left_out.count()) == (findings == 60), "nothing is left out without a word"
    assert "Likely contains AI-generated pixels." in page.locator("#sheet").text_content()
    page.close()


def test_without_an_open_picture_the_list_is_printed(browser, told_path):
    page = browser.new_page()
    page.goto(told_path.as_uri())
    lay_out_sheet(page)
    assert page.locator("#sheet").count() == 0
    assert page.locator("#list").is_visible()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_findings_are_readable_in_both_schemes(browser, told_path, low_contrast, scheme):
    page = browser.new_page(color_scheme=scheme, reduced_motion="reduce")
    page.goto(told_path.as_uri())
    assert low_contrast(page) == []
    page.locator("#rows .open", has_text="told").click()
    assert low_contrast(page) == []
    page.close()


def test_a_method_with_one_question_and_no_maps(browser, tmp_path):
    path = tmp_path / "plain.html"
    answers = {"fake": Answer(0.7, Verdict.UNCERTAIN, (0.5, 0.9))}
    report = Report("cat.jpg", (451, 300), "npr", "cd" * 32, False, answers)
    write_report([PageRow(report, data.chelsea())], path, title="Plain")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert "0.50 ≤ 0.70 < 0.90" in page.locator("#rows").inner_text()
    page.get_by_role("button", name="cat.jpg").click()
    assert "Uncertain whether it is generated or edited." in page.locator("#panel").inner_text()
    assert "draws no map" in page.locator("#map-key").inner_text()
    assert not page.get_by_label("Overlay opacity").is_visible()
    assert page.locator("#stage .marked .photo").is_visible()
    page.close()


def second_opinion(tmp_path, **options) -> Path:
    """A page where one detector finds what the other does not, and they agree on a second picture."""
    path = tmp_path / "opinions.html"
    rows = []
    for name, pixels, chances in (
        ("cat.jpg", data.chelsea(), ((0.95, 0.1), (0.1, 0.2))),
        ("coffee.jpg", data.coffee(), ((0.1, 0.1), (0.2, 0.1))),
    ):
        first, other = (row(name, pixels, *pair).report for pair in chances)
        other = replace(other, method="npr", weights_sha256="cd" * 32, caveats=("Only this one.",))
        quiet = (replace(item, on_request=True) for item in other.evidence)
        other = replace(other, evidence=tuple(quiet))
        rows.append(PageRow(first, pixels, "eager", {"de@f": other}))
    write_report(rows, path, title="Opinions", **options)
    return path


@pytest.fixture
def opinions(browser, tmp_path):
    """The page of two detectors; afterwards, no console message and no error."""
    page = browser.new_page(viewport={"width": 1366, "height": 850}, accept_downloads=True)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(second_opinion(tmp_path).as_uri())
    yield page
    page.close()
    assert problems == []


def test_detectors_stand_side_by_side_and_differences_are_said(opinions):
    heads = opinions.locator("#columns th.answer").all_inner_texts()
    assert heads == [
        f"{column} · {name}"
        for name in ("eager", "de@f")
        for column in ("AI-generated pixels", "Was edited")
    ]
    assert opinions.locator("#rows tr").first.locator(".chip").all_inner_texts() == [
        "Fake", *["No sign"] * 3,
    ]  # fmt: skip
    assert opinions.locator("#rows .differs").count() == 1
    assert "de@f: Only this one." in opinions.locator("#rows td.caveats").first.inner_text()
    opinions.locator("#rows .open", has_text="cat").click()
    panel = opinions.locator("#panel")
    assert (
        "The detectors differ on “AI-generated pixels”: eager says “Fake”, de@f says “No sign”."
        in panel.inner_text()
    )
    assert panel.locator("article.opinion").count() == 2
    assert "Only this one." not in panel.locator("article").first.inner_text()
    assert {"ab" * 32, "cd" * 32} <= set(panel.locator(".origin dd").all_inner_texts())
    assert pages_of(opinions.pdf(format="A4")) == 1
    opinions.keyboard.press("Escape")
    opinions.locator("#rows .open", has_text="coffee").click()
    assert "The detectors say the same" in panel.inner_text()
    assert opinions.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("width", [1120, 1280, 1400])
def test_names_stay_readable_beside_four_answers(opinions, width):
    opinions.set_viewport_size({"width": width, "height": 768})
    assert opinions.locator("#columns th.answer").count() == 4
    name = opinions.locator("#rows td.name").first
    assert name.evaluate("cell => cell.getBoundingClientRect().width") > 140
    answers = opinions.locator("#rows td.answer .number").all()
    assert all(
        one.evaluate("it => it.scrollWidth <= it.parentElement.clientWidth") for one in answers
    )


def test_what_is_downloaded_holds_every_opinion(opinions):
    with opinions.expect_download() as download:
        opinions.locator("#download").click()
    first, *_ = json.loads(Path(download.value.path()).read_text())["rows"]
    assert (first["detector"], first["second_opinions"][0]["detector"]) == ("eager", "de@f")
    assert first["second_opinions"][0]["answers"]["generated"]["probability"] == 0.1
    assert len(first["differences"]) == 1
    with opinions.expect_download() as download:
        opinions.locator("#download-table").click()
    (line, _) = csv.DictReader(
        io.StringIO(Path(download.value.path()).read_text("utf-8-sig"), newline="")
    )
    assert line["generated@de@f verdict"] == "no sign"


def test_maps_beside_no_sign_wait_for_a_click_and_are_named_so(opinions):
    opinions.locator("#rows .open", has_text="cat").click()
    layers = opinions.locator("#stage .marked .layer")
    shown = {one.get_attribute("data-layer"): one.is_visible() for one in layers.all()}
    assert shown == {
        "generated@eager": True, "edited@eager": False, "unexamined@eager": True,
        "generated@de@f": False, "edited@de@f": False, "unexamined@de@f": False,
    }  # fmt: skip
    button = opinions.locator('#layer-toggles button[data-layer="edited@de@f"]')
    assert "shown on request; nothing stood out" in button.inner_text()
    loud = opinions.locator('#layer-toggles button[data-layer="generated@eager"]')
    assert "request" not in loud.inner_text()
    button.click()
    asked = opinions.locator('#stage .marked .layer[data-layer="edited@de@f"]')
    assert asked.is_visible()
    assert "Edited · de@f: shown on request" in opinions.locator("#map-key").inner_text()
    opinions.keyboard.press("Escape")
    opinions.locator("#rows .open", has_text="coffee").click()
    assert [one.is_visible() for one in layers.all()] == [False] * 6


def test_labels_alone_show_no_number_anywhere(browser, tmp_path):
    page = browser.new_page(accept_downloads=True)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(second_opinion(tmp_path, numbers=False).as_uri())
    assert "Fake" in page.locator("#rows").inner_text()
    page.locator("#sort").select_option("answer:generated@eager")
    assert names(page) == ["cat.jpg", "coffee.jpg"]
    page.locator("#rows .open", has_text="cat").click()
    for text in (page.locator("#rows"), page.locator("#panel"), page.locator("#sheet")):
        if text.count():
            assert re.findall(r"\d\.\d\d|%|≥|Probability", text.inner_text()) == []
    assert page.locator("svg.bar").count() == 0
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.locator("#download-table").click()
    assert "probability" not in Path(download.value.path()).read_text("utf-8-sig")
    page.close()
    assert problems == []


@narrow
def test_nothing_sticks_out_on_a_phone(page):
    wide = "document.documentElement.scrollWidth - innerWidth"
    assert page.evaluate(wide) <= 0
    page.locator("#rows .open").first.click()
    assert page.evaluate(wide) <= 0
    assert page.evaluate("document.querySelector('.detail-body').scrollWidth - innerWidth") <= 0


def test_long_lists_are_drawn_as_they_come_into_view(browser, tmp_path):
    small = data.chelsea()[:30, :30]
    rows = [row(f"{index:04d}.jpg", small, (index % 100) / 100, 0.1) for index in range(300)]
    path = tmp_path / "long.html"
    write_report(rows, path, title="Long", pictures=20)
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.locator("#rows tr").count() < 200
    assert "20 most suspicious" in page.locator("#limited").inner_text()
    for _ in range(20):
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.wait_for_timeout(20)
    assert page.locator("#rows tr").count() == 300
    page.locator("#rows .open").last.click()
    assert "only for the most suspicious" in page.locator("#stage").inner_text()
    page.close()


def test_similar_scores_are_counted_listed_and_lead_there(browser, tmp_path):
    small = data.chelsea()[:40, :60]
    chances = {"a.jpg": 0.50, "b.jpg": 0.53, "c.jpg": 0.46, "far.jpg": 0.6, "alone.jpg": 0.95}
    rows = [row(name, small, chance, 0.1) for name, chance in chances.items()]
    rows.append(row("differs.jpg", small, 0.5, 0.7))
    path = tmp_path / "similar.html"
    write_report([*rows, FailedRow("broken.jpg", "Empty.")], path, title="Similar", pictures=3)
    page = browser.new_page(reduced_motion="reduce")
    page.goto(path.as_uri())
    page.get_by_label("Name contains").fill("a.jpg")
    page.get_by_role("button", name="a.jpg", exact=True).click()
    section = page.locator("#panel .similar")
    assert "Of 5 other pictures, 2 score within 0.05" in section.inner_text()
    assert section.locator("bdi").all_inner_texts() == ["b.jpg", "c.jpg"], "the closest first"
    section.get_by_role("button", name="b.jpg").focus()
    page.keyboard.press("Enter")
    assert page.locator("#detail-name").inner_text() == "b.jpg"
    assert page.evaluate("document.activeElement.id") == "detail-name"
    assert section.locator("bdi").all_inner_texts() == ["a.jpg"]
    page.keyboard.press("Escape")
    page.get_by_role("button", name="alone.jpg").click()
    assert "none scores within 0.05" in section.inner_text()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrast_reaches_aa(browser, report_path, low_contrast, scheme):
    page = browser.new_page(color_scheme=scheme, reduced_motion="reduce")
    page.goto(report_path.as_uri())
    page.get_by_role("button", name="Not examined: 1").click()
    assert low_contrast(page) == []
    page.get_by_role("button", name="Reset").click()
    assert low_contrast(page) == []
    page.get_by_role("button", name="press/coffee.jpg").click()
    assert low_contrast(page) == []
    page.close()
