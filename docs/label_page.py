"""A hundred labels on the page of stage=label in Chromium: ``python -m docs.label_page FOLDER``, about a minute.

Draws pictures with answers, some of them wrong, starts the page, labels by keyboard, writes FOLDER/label.png and prints
the seconds that the page itself takes for a label.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from docs.miniature import RUN, draw_photos, hash_of
from docs.screenshots import CHROMIUM

PORT = 7862
ROWS = Path("outputs/data/photos/boxes/teacher.jsonl")
LABELS = 100
SHOWN_AT = 37  # labels given before the picture is taken
MODEL = "qwen2.5-vl"  # its boxes are in pixels


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    answers = draw_photos(folder / "photos", LABELS + 20)
    (folder / ROWS).parent.mkdir(parents=True)
    with (folder / ROWS).open("w", encoding="utf-8") as file:
        for path in sorted((folder / "photos").iterdir()):
            row = {"id": path.name, "image": str(path), "question": "What is in the picture, and where?"}
            print(json.dumps(row | {"answer": answers[hash_of(path)]}), file=file)
    stage = ["stage=label", "images=photos", "task=vqa", "task.name=boxes", "answers=teacher", f"model={MODEL}"]
    stage += [f"stage.rows={LABELS}", f"stage.port={PORT}", "stage.labeller=ann", "tracking=none"]
    with subprocess.Popen([*RUN, *stage], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        next(line for line in process.stdout if "Ctrl-C" in line)
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1280, "height": 820})
                took = _label(page, folder / "label.png")
                browser.close()
        finally:
            process.terminate()
    took.sort()
    print(f"{len(took)} labels, seconds each: median {took[len(took) // 2]:.3f}, 95th percentile {took[-6]:.3f}")


def _label(page: Page, picture: Path) -> list[float]:
    """Label all rows, take a picture on the way, and return the seconds from each key to the next row."""
    choose, took = random.Random(4), []
    page.goto(f"http://127.0.0.1:{PORT}")
    page.wait_for_selector("[data-shown]")
    for number in range(LABELS):
        if number >= SHOWN_AT and not picture.exists() and "}, {" in page.locator("#row .answer").inner_text():
            page.locator("#row img").evaluate("image => image.decode()")
            page.screenshot(path=picture)
        shown = page.locator("[data-shown]").get_attribute("data-shown")
        began = time.perf_counter()
        page.keyboard.press(choose.choices("rws", [8, 2, 0.3])[0])
        page.wait_for_function("shown => document.querySelector('[data-shown]').dataset.shown !== shown", arg=shown)
        took.append(time.perf_counter() - began)
    return took


if __name__ == "__main__":
    main(Path(sys.argv[1]))
