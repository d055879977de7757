"""Reports and the index in a real Chromium: they can be used, they fit, and they run no script of the data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import draw_pictures
from tests.engine.browser import browser, needs_chromium  # noqa: F401  (a fixture)
from tests.unit.runs.test_report import NASTY, summary
from vd100k.runs.report import index, page

pytestmark = [pytest.mark.engine, needs_chromium, pytest.mark.timeout(120)]

ROWS = 100_000
PAPER = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of outputs with a training, and a generation of very many rows with texts that look like HTML."""
    place = tmp_path_factory.mktemp("outputs")
    pictures = draw_pictures(place / "p", 40)
    with (place / "m.jsonl").open("w") as file:
        for k in range(ROWS):
            box = {"bbox_2d": [2, 2, 20, 20], "label": "b"}
            answer = json.dumps([box]) if k else NASTY
            row = {"id": f"{k % 40:02}.png", "image": str(pictures / f"{k % 40:02}.png"), "question": "same"}
            file.write(json.dumps(row | {"answer": answer, "completion_tokens": k % 50 + 1}) + "\n")
    failed = [{"id": f"{k:02}.png", "reason": "http_400" if k else "timeout", "detail": NASTY} for k in range(9)]
    (place / "m.failures.jsonl").write_text("".join(json.dumps(row) + "\n" for row in failed))
    made = [{"path": str(place / "m.jsonl"), "rows": ROWS, "sha256": ""}]
    counts = {"rows": ROWS, "failed": 9, "cost": 3.2}
    for name, stage, more in (
        ("10-00-generate", "generate", {"outputs": made, "counts": counts, "image_folders": [str(pictures)]}),
        ("11-00-finetune", "finetune", {"metrics": {"loss": [[1, 2.0], [2, 1.0], [3, 0.5]]}, "counts": {"steps": 3}}),
    ):
        folder = place / "runs/2026-01-02" / name
        folder.mkdir(parents=True)
        page.write(summary(folder, stage, started=f"2026-01-02T{name[:2]}:00:00+00:00", **more))
    index.write(place)
    page.write(place / "runs/2026-01-02/10-00-generate")  # again, now that there is an index to link to
    return place


def opened(browser: Browser, path: Path, width: int = 1280) -> Page:  # noqa: F811
    """The page at a width, after checking that it asks for nothing, runs no foreign script and fits."""
    shown = browser.new_page(viewport={"width": width, "height": 900})
    asked: list[str] = []
    shown.on("request", lambda request: asked.append(request.url))
    shown.on("dialog", lambda dialog: pytest.fail(f"a script of the data ran: {dialog.message}"))
    shown.on("pageerror", lambda error: pytest.fail(f"an error of our script: {error}"))
    shown.goto(path.as_uri())
    assert all(url.startswith(("file:", "data:")) for url in asked)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width, "the page is wider than the window"
    return shown


def test_a_report_of_100_000_rows_is_small_and_opens_in_a_second(browser: Browser, outputs: Path) -> None:  # noqa: F811
    path = outputs / "runs/2026-01-02/10-00-generate/report.html"
    assert path.stat().st_size < 3_000_000
    shown = opened(browser, path)
    assert shown.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") < 1000
    opened(browser, path, 390)


def test_a_gallery_is_searched_filtered_sorted_and_enlarged(browser: Browser, outputs: Path) -> None:  # noqa: F811
    shown = opened(browser, outputs / "runs/2026-01-02/10-00-generate/report.html")
    cards = shown.locator(".gallery article:visible")
    assert cards.count() == 8
    expect(shown.locator(".count")).to_contain_text("8 of 100,009 shown; all are in")
    assert shown.get_by_text("same", exact=True).count() == 0, "the prompt is part of one paragraph above the cards"
    assert shown.locator(".shared").inner_text().endswith("same")
    shown.locator("[name=group]").select_option("http_400")
    assert cards.count() == 3
    expect(shown.locator(".shown")).to_have_text("3")
    shown.locator("[name=group]").select_option("answered")
    assert cards.count() == 24, "the filter looks in all cards, not in the first ones"
    shown.locator("[name=group]").select_option("")
    assert cards.count() == 8
    shown.get_by_role("button", name="Show all 28").click()
    everything = cards.count()
    assert everything == 28
    expect(shown.locator(".more")).to_be_hidden()
    shown.get_by_label("search").fill("ALERT(1)")
    assert 0 < cards.count() < everything
    shown.get_by_label("search").fill("")
    shown.locator("[name=sort]").select_option("name")
    names = cards.locator(".name").all_inner_texts()
    assert names == sorted(names)
    shown.locator("[name=sort]").select_option("worst")
    expect(cards.first).to_contain_text("http_400")
    shown.locator("button.frame:has(svg.boxes)").first.click()
    expect(shown.locator("dialog[open] .frame img")).to_be_visible()
    assert shown.locator("dialog[open] .frame rect").count() == 1
    shown.keyboard.press("Escape")
    expect(shown.locator("dialog[open]")).to_have_count(0)


def test_all_cards_are_printed_on_white_paper(browser: Browser, outputs: Path) -> None:  # noqa: F811
    shown = opened(browser, outputs / "runs/2026-01-02/10-00-generate/report.html")
    shown.get_by_label("theme").select_option("dark")
    shown.emulate_media(media="print", color_scheme="dark")
    assert shown.locator(".gallery article:visible").count() == 28
    assert shown.evaluate(PAPER) == "rgb(255, 255, 255)"
    for tool in (".tools", ".more", "nav"):
        expect(shown.locator(tool).first).to_be_hidden()
    shown.evaluate("localStorage.clear()")


def test_light_or_dark_can_be_chosen_and_is_remembered(browser: Browser, outputs: Path) -> None:  # noqa: F811
    shown = opened(browser, outputs / "runs/2026-01-02/10-00-generate/report.html")
    dark, light = "rgb(19, 19, 20)", "rgb(251, 251, 250)"
    assert shown.evaluate(PAPER) == light
    shown.emulate_media(color_scheme="dark")
    assert shown.evaluate(PAPER) == dark
    shown.get_by_label("theme").select_option("light")
    assert shown.evaluate(PAPER) == light
    shown.emulate_media(color_scheme="light")
    shown.get_by_label("theme").select_option("dark")
    shown.get_by_role("link", name="All runs").click()
    expect(shown.locator("h1")).to_have_text("2 runs")
    assert shown.evaluate(PAPER) == dark
    expect(shown.get_by_label("theme")).to_have_value("dark")
    shown.get_by_label("theme").select_option("system")
    assert shown.evaluate(PAPER) == light
    shown.reload()
    expect(shown.get_by_label("theme")).to_have_value("system")


def test_a_page_works_in_a_browser_that_remembers_nothing(browser: Browser, outputs: Path) -> None:  # noqa: F811
    shown = browser.new_page()
    shown.on("pageerror", lambda error: pytest.fail(f"an error of our script: {error}"))
    shown.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } })")
    shown.goto((outputs / "index.html").as_uri())
    shown.get_by_label("theme").select_option("dark")
    assert shown.evaluate(PAPER) == "rgb(19, 19, 20)"


def test_the_link_to_all_runs_also_works_through_the_link_to_the_last_run(
    browser: Browser,  # noqa: F811
    outputs: Path,
) -> None:
    (outputs / "latest").symlink_to(outputs / "runs/2026-01-02/10-00-generate")
    shown = opened(browser, outputs / "latest/report.html")
    shown.get_by_role("link", name="All runs").click()
    expect(shown.locator("h1")).to_have_text("2 runs")


def test_charts_say_what_is_under_the_pointer(browser: Browser, outputs: Path) -> None:  # noqa: F811
    shown = opened(browser, outputs / "runs/2026-01-02/10-00-generate/report.html")
    shown.locator(".columns rect.whole").first.hover()
    expect(shown.locator("#tip")).to_contain_text("%")
    shown = opened(browser, outputs / "runs/2026-01-02/11-00-finetune/report.html")
    shown.locator("[data-points]").hover()
    expect(shown.locator("#tip")).to_have_text("step 2: 1")


def test_the_index_is_sorted_and_filtered_and_leads_to_the_reports(browser: Browser, outputs: Path) -> None:  # noqa: F811
    opened(browser, outputs / "index.html", 390)
    shown = opened(browser, outputs / "index.html")
    stages = shown.locator(".runs tbody tr:visible td:nth-child(2)")
    assert stages.all_inner_texts() == ["finetune", "generate"]
    shown.get_by_role("button", name="date").click()
    assert stages.all_inner_texts() == ["generate", "finetune"]
    shown.get_by_role("button", name="stage").click()
    assert stages.all_inner_texts() == ["finetune", "generate"]
    shown.get_by_label("filter").fill("$3.20")
    assert stages.all_inner_texts() == ["generate"]
    shown.get_by_role("link", name="2026-01-02").click()
    expect(shown.locator("h1")).to_have_text("100,000 answers, 9 failed, $3.20")
