"""How long a report of 100,000 rows takes to make and to open in headless Chromium, and its size.

``python benchmarks/report.py [ROWS]`` draws photos of 12 megapixels, which are slower than those of most data sets.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from vd100k.runs.report import index, page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHOTOS = 30
OPENED = 5  # times


def made(place: Path, rows: int) -> Path:
    """A run folder of a generation with this many rows about ``PHOTOS`` photos."""
    draw = random.Random(1)
    photos = place / "photos"
    photos.mkdir()
    for k in range(PHOTOS):
        noise = Image.effect_noise((400, 300), 90).convert("RGB").resize((4000, 3000))
        noise.save(photos / f"{k:03}.jpg", quality=85)
    with (place / "m.jsonl").open("w") as file:
        for k in range(rows):
            # Evenly spaced rows are shown; a stride that shares no factor with theirs shows different photos.
            row = {"id": f"{k}", "image": str(photos / f"{k // 7 % PHOTOS:03}.jpg"), "question": "What is this?"}
            answer = "A text of some words. " * draw.randint(1, 60)
            file.write(json.dumps(row | {"answer": answer, "completion_tokens": draw.randint(5, 400)}) + "\n")
    run = place / "runs/2026-01-02/03-04-generate"
    run.mkdir(parents=True)
    content = {
        **{"stage": "generate", "status": "ok", "counts": {"rows": rows, "failed": 0}, "metrics": {}, "inputs": []},
        **{"outputs": [{"path": str(place / "m.jsonl"), "rows": rows, "sha256": ""}], "seconds": 1.0},
        **{"image_folders": [str(photos)], "steps": [], "settings": {}},
    }
    (run / "summary.json").write_text(json.dumps(content))
    return run


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        run = made(Path(folder), rows)
        began = time.monotonic()
        report = page.write(run)
        print(f"{rows:,} rows: made in {time.monotonic() - began:.2f} s, {report.stat().st_size / 1e6:.2f} MB")
        began = time.monotonic()
        index.write(Path(folder))
        print(f"index of one run: made in {time.monotonic() - began:.3f} s")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        times = []
        for _ in range(OPENED):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            tab.goto(report.as_uri())
            times.append(tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
            tab.close()
        print(f"opened in {min(times):.0f} to {max(times):.0f} ms (load event, {OPENED} times)")
        browser.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
