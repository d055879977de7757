"""The first ten minutes of a new user: a fresh clone, a shell without variables, the commands of the README in order.

    python benchmarks/first_minutes.py           # installs, walks the README, looks at 20 mixed photos
    python benchmarks/first_minutes.py --demo    # the demo as well, as one would start it (seven minutes)

A local server answers in place of GPT, and commands for hardware that is missing are dry runs. Every command must
succeed; the demo's page must be there within ten minutes of the clone, and that of the photos within five.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.chat_server import chat_server  # noqa: E402

BLOCK = re.compile(r"^```\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"\s+#.*$")
EXIF_ORIENTATION = 0x0112
REGISTRY = ("SSL_CERT", "PIP_", "UV_", "HTTP", "http", "REQUESTS_CA")  # how this machine reaches packages


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", action="store_true", help="run the demo too")
    with_demo, failed = parser.parse_args().demo, 0
    with tempfile.TemporaryDirectory() as place, chat_server(lambda n, body: f"A picture, answer {n}.") as server:
        clone, home = Path(place) / "vd100k", Path(place) / "home"
        home.mkdir()
        began = time.monotonic()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        python = shutil.which("python3.11") or sys.executable
        path = f"{Path(os.path.realpath(python)).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        packages = {name: value for name, value in os.environ.items() if name.startswith(REGISTRY)}
        env = packages | {"HOME": str(home), "PATH": path, "OPENAI_API_KEY": "of-the-local-server"}
        failed += call(f"make env PYTHON={python}", clone, env)
        if with_demo:
            failed += call("make demo", clone, env)
            failed += report("from the clone to the demo's page", began, 600, clone / "outputs/latest/report.html")
        draw_photos(clone / "photos")
        draw_photos(clone / "heldout")
        names = sorted(path.name for path in (clone / "heldout").glob("photo*"))
        (clone / "heldout.jsonl").write_text("".join(f'{{"id": "{name}", "answer": "a"}}\n' for name in names))
        (clone / "outputs/latest").unlink(missing_ok=True)
        began = time.monotonic()
        for command in commands(clone / "README.md"):
            failed += call(as_here(command, server.url), clone, env)
            if "preview=5" in command:
                failed += report("from the photos to their page", began, 300, clone / "outputs/latest/preview.html")
    print(f"{failed} failed" if failed else "all commands succeeded")
    return min(failed, 1)


def commands(document: Path) -> list[str]:
    """The ``python run.py`` commands of a document, in order, without those that leave something out ("…")."""
    blocks = BLOCK.findall(document.read_text(encoding="utf-8"))
    lines = [COMMENT.sub("", line) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("python run.py") and "…" not in line]


def as_here(command: str, url: str) -> str:
    """The command as it can run here: GPT is the local server, and what needs a GPU, or another model, is a dry run."""
    command = command.replace("FOLDER", "photos").replace("http://127.0.0.1:8000/v1", url).replace("=NAME", "=local")
    if "stage=generate" in command and "hardware=api" in command:
        return command if "hardware.urls" in command else f"{command} 'hardware.urls=[{url}]'"
    if command.startswith("python run.py experiment=manifest-ocr images="):
        return f"{command.replace('images=photos', 'images=outputs/images/manifests-42')}"
    return command if "dry_run=true" in command or " -m " in command else f"{command} dry_run=true"


def call(command: str, folder: Path, env: dict[str, str]) -> int:
    """Run a command in a shell without our variables; print how it ended. Returns 1 if it failed."""
    began = time.monotonic()
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=False)
    print(f"{'ok' if done.returncode == 0 else 'FAILED'} {time.monotonic() - began:6.1f} s  {command}", flush=True)
    if done.returncode:
        print(done.stdout[-1500:], done.stderr[-1500:], sep="\n")
    return int(done.returncode != 0)


def report(what: str, began: float, limit_s: float, page: Path) -> int:
    seconds = time.monotonic() - began
    found = page.exists()
    print(f"{what}: {seconds:.0f} s (at most {limit_s:.0f}); page {'exists' if found else 'MISSING'}: {page.name}")
    return int(not found or seconds > limit_s)


def draw_photos(folder: Path) -> None:
    """20 mixed photos: JPEG, PNG, HEIC, turned by EXIF; a Mac's twin, a video and a text among them."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    folder.mkdir()
    rng = random.Random(1)
    for k in range(20):
        image = Image.new("RGB", (640, 480), tuple(rng.randrange(256) for _ in range(3)))
        ImageDraw.Draw(image).ellipse((100, 100, 300 + k, 300), fill="white")
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = 6 if k % 4 == 1 else 1
        suffix = ("heic", "jpg", "png", "jpg")[k % 4]
        image.save(folder / f"photo{k:02d}.{suffix}", exif=exif)
    (folder / "._photo01.jpg").write_bytes(rng.randbytes(4096))
    (folder / "clip.mov").write_bytes(rng.randbytes(100_000))
    (folder / "notes.txt").write_text("Photos of a trip.\n")


if __name__ == "__main__":
    sys.exit(main())
