"""Pictures of a report and of the index in Chromium: ``python docs/screenshots.py RUN_FOLDER OUTPUT_FOLDER``.

Writes report.png (1280 pixels wide) and report-phone.png (390), both also dark (report-dark.png), gallery-filtered.png,
and the same four pictures of the ``index.html`` of the outputs that the run folder is in. docs/miniature.py makes
twenty runs to take pictures of.
"""

from __future__ import annotations

import itertools
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SIZES = {"": (1280, 1400), "-phone": (390, 1400)}


def opened(browser: Browser, path: Path, size: tuple[int, int], dark: bool = False) -> Page:
    width, height = size
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", device_scale_factor=1
    )
    page.goto(path.resolve().as_uri())
    return page


def main(run: Path, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    report = run / "report.html"
    index = next((folder / "index.html" for folder in run.resolve().parents if (folder / "index.html").exists()), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for path in filter(None, (report, index)):
            for (name, size), dark in itertools.product(SIZES.items(), (False, True)):
                page = opened(browser, path, size, dark)
                page.screenshot(path=into / f"{path.stem}{name}{'-dark' if dark else ''}.png")
        page = opened(browser, report, SIZES[""])
        galleries = page.locator("[data-gallery]")
        if galleries.count():
            last = galleries.last
            groups = last.locator("[name=group]")
            if groups.count():
                groups.select_option(index=1)
            last.locator("[name=search]").fill(last.locator(".name:visible").first.inner_text()[:3])
            last.scroll_into_view_if_needed()
            last.screenshot(path=into / "gallery-filtered.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
