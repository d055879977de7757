"""The page of stage=label in a real Chromium: labelling by keyboard, and what is kept when the browser is closed."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.conftest import draw_pictures, free_ports
from tests.engine.browser import browser, needs_chromium  # noqa: F401  (a fixture)
from tests.engine.conftest import Running
from vd100k.io import jsonl
from vd100k.labelling.judgements import of_rows
from vd100k.labelling.labels import read
from vd100k.labelling.sample import uniform

pytestmark = [pytest.mark.engine, needs_chromium]

ROWS, SAMPLE = 30, 24
OWNED = "document.title='owned'"
HTML = f"""<img src="http://192.0.2.1/x.png" onerror="{OWNED}"><script>{OWNED}</script> ${{{OWNED}}} {{{{2}}}} **b**"""
BOX = "<ref>a dog</ref><box>(250,250),(750,750)</box>"
OPENS_S = 60
KEYS = "rrwrs"  # right, right, wrong, right, skipped
SAID = [True, True, False, True, None]


class Labelling:
    """A data set in a folder, and the page in it."""

    def __init__(self, folder: Path, launch: Callable[..., Running]) -> None:
        self.folder, self._launch = folder, launch
        self.rows_path = folder / "outputs/data/photos/vqa/teacher.jsonl"
        self.labels_path = self.rows_path.with_name("teacher.labels.jsonl")
        self.address = ""
        draw_pictures(folder / "photos", ROWS)
        self.rows = [
            {"id": path.name, "image": str(path), "question": "Which colour?", "answer": f"colour {k}"}
            for k, path in enumerate(sorted((folder / "photos").iterdir()))
        ]
        self.sample = [drawn.row for drawn in uniform(self.rows, SAMPLE, 42)]
        self.rows_path.parent.mkdir(parents=True)

    def start(self) -> Running:
        jsonl.write(self.rows_path, self.rows)
        port = free_ports(1)
        self.address = f"http://127.0.0.1:{port}"
        running = self._launch(
            self.folder,
            *("stage=label", "images=photos", "task=vqa", "answers=teacher", "stage.labeller=ann"),
            *(f"stage.rows={SAMPLE}", f"stage.port={port}"),
        )
        running.wait_for("Ctrl-C stops it", OPENS_S)
        return running

    def open(self, browser: Browser) -> Page:  # noqa: F811
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("request", lambda request: self._is_own(request.url))
        page.goto(self.address)
        expect(page.locator("[data-shown]")).to_be_visible(timeout=OPENS_S * 1000)
        return page

    def labels(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.labels_path.read_text(encoding="utf-8").splitlines()]

    def _is_own(self, url: str) -> None:
        assert url.startswith((self.address, "data:", "blob:")), url


def shown(page: Page) -> str:
    return str(page.locator("#row .id").inner_text().split(" · ")[0])


def press(page: Page, key: str) -> None:
    """Press a key, and wait until another row is shown."""
    before = page.locator("[data-shown]").get_attribute("data-shown")
    page.keyboard.press(key)
    expect(page.locator("[data-shown]")).not_to_have_attribute("data-shown", str(before))


@pytest.fixture
def labelling(tmp_path: Path, launch: Callable[..., Running]) -> Labelling:
    return Labelling(tmp_path, launch)


def test_twenty_labels_by_keyboard_are_all_kept(labelling: Labelling, browser: Browser) -> None:  # noqa: F811
    running = labelling.start()
    page = labelling.open(browser)
    began = time.monotonic()
    for number, row in enumerate(labelling.sample[:11]):
        assert shown(page) == row["id"]
        press(page, KEYS[number % 5])
    print(f"{(time.monotonic() - began) / 11:.3f} s a label")
    page.close()  # in the middle
    assert len(labelling.labels()) == 11
    page = labelling.open(browser)
    assert shown(page) == labelling.sample[11]["id"]
    press(page, KEYS[11 % 5])
    running.process.send_signal(signal.SIGKILL)
    running.process.wait(10)
    page.close()
    assert len(labelling.labels()) == 12

    running = labelling.start()
    page = labelling.open(browser)
    for number in range(12, 20):
        assert shown(page) == labelling.sample[number]["id"]
        press(page, KEYS[number % 5])
    expect(page.locator(".progress")).to_contain_text(
        "20 of 24 labelled · 4 of 16 wrong: 25 % (10 to 49) of all rows · 4 skipped"
    )
    kept = labelling.labels()
    assert [label["id"] for label in kept] == [row["id"] for row in labelling.sample[:20]]
    assert [label["right"] for label in kept] == SAID * 4
    assert {label["by"] for label in kept} == {"ann"}
    for key in "rrrr":
        press(page, key)
    expect(page.locator(".finished")).to_be_visible()
    press(page, "u")
    assert shown(page) == labelling.sample[23]["id"]
    page.close()
    assert running.interrupt() < 20
    assert running.process.returncode == 0, "".join(running.lines)
    assert any("24 of 24 rows labelled, 4 of 20 wrong: 20 % (8 to 42)" in line for line in running.lines)
    judged = of_rows(read(labelling.labels_path), labelling.rows)
    assert len(judged.rows) == 20
    assert judged.unused["skipped"] == 4


def test_typing_corrections_going_back_and_unusual_rows(labelling: Labelling, browser: Browser) -> None:  # noqa: F811
    with_html, with_box, without_image = labelling.sample[2:5]
    with_html["answer"] = HTML
    with_box["answer"] = BOX
    Image.new("RGB", (400, 400), "white").save(with_box["image"])
    Path(without_image["image"]).unlink()
    running = labelling.start()
    page = labelling.open(browser)
    field = page.locator("#corrected textarea")

    # Keys write into the field; Ctrl+Enter saves the correction as wrong.
    assert shown(page) == labelling.sample[0]["id"]
    page.keyboard.press("e")
    expect(field).to_be_focused()
    field.fill("")
    page.keyboard.type("rws: better")
    page.keyboard.press("Escape")
    press(page, "r")  # contradicts the correction
    expect(page.locator(".notice").first).to_contain_text("The answer is corrected below")
    assert not labelling.labels_path.read_text(encoding="utf-8")
    expect(field).to_have_value("rws: better")
    field.focus()
    press(page, "Control+Enter")
    assert [(label["right"], label["corrected"]) for label in labelling.labels()] == [(False, "rws: better")]

    # Back shows the label and its correction, and another label replaces it.
    press(page, "u")
    expect(page.locator(".before")).to_have_text("labelled wrong, corrected to: rws: better")
    expect(field).to_have_value("rws: better")
    field.fill(labelling.sample[0]["answer"])
    page.keyboard.press("Escape")
    press(page, "ArrowRight")
    assert shown(page) == labelling.sample[1]["id"]

    # Two keys at once label one row.
    before = len(labelling.labels())
    page.evaluate("for (const key of ['w', 'w', 'r']) document.dispatchEvent(new KeyboardEvent('keydown', {key}))")
    expect(page.locator("#row .id")).to_contain_text(labelling.sample[2]["id"])
    page.wait_for_timeout(500)
    assert len(labelling.labels()) == before + 1
    assert labelling.labels()[-1]["right"] is False

    assert page.locator("#row .answer").inner_text() == HTML
    press(page, "s")
    page.locator("#row img").evaluate("image => image.decode()")
    page.locator("#row img").screenshot(path=labelling.folder / "drawn.png")
    assert is_drawn(labelling.folder / "drawn.png")
    press(page, "s")
    expect(page.locator(".pictures .notice")).to_contain_text("the image cannot be shown")
    press(page, "s")
    assert shown(page) == labelling.sample[5]["id"]
    assert page.title() == "Labels"
    page.close()
    refused = labelling._launch(
        labelling.folder,
        *("stage=label", "images=photos", "task=vqa", "answers=teacher", "stage.labeller=bo"),
    )
    refused.process.wait(OPENS_S)
    assert refused.process.returncode
    assert any("another page appends labels to it" in line for line in refused.lines)
    running.interrupt()


def is_drawn(screenshot: Path) -> bool:
    """Whether a red box is drawn from a quarter to three quarters of the picture."""
    with Image.open(screenshot) as seen:
        picture = seen.convert("RGB")
    side = min(picture.size)  # a square picture is shown in the middle
    middle = [picture.getpixel((x, picture.height // 2)) for x in range(picture.width)]
    edges = [x - (picture.width - side) / 2 for x, (red, green, _) in enumerate(middle) if red - green > 50]
    return abs(min(edges) - side / 4) < 8 and abs(max(edges) - side * 3 / 4) < 8
