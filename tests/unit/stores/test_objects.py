"""Images in object storage: the same rows as from a folder, exactly once, and what can go wrong on the way."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.chat_server import ChatServer, chat_server
from tests.conftest import ROOT, command_line, draw_pictures
from tests.object_storage import Storage
from tests.unit.generation.test_run import ask, asking, rows
from vd100k.errors import DataError
from vd100k.images.find import find_images
from vd100k.pages.pictures import Album
from vd100k.stores.urls import below

Call = Callable[..., subprocess.CompletedProcess[str]]
ELSEWHERE = ("image", "image_mtime_ns", "image_etag")  # the fields that say where and when


def described(number: int, body: dict[str, Any]) -> str:
    """An answer that depends on the picture alone."""
    return hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()


def contents(folder: Path, dataset: str) -> list[str]:
    """The rows of a data set without the fields that differ between places, sorted."""
    lines = (folder / f"outputs/data/{dataset}/details/gpt-4o.jsonl").read_text(encoding="utf-8").splitlines()
    return sorted(json.dumps({k: v for k, v in json.loads(line).items() if k not in ELSEWHERE}) for line in lines)


def test_the_rows_are_those_of_the_folder(vd100k: Call, tmp_path: Path, pictures: Path, cloud: Storage) -> None:
    draw_pictures(pictures / "more of them/ü", 3, seed=1)
    (pictures / "note.txt").write_text("no picture", encoding="utf-8")
    (pictures / "broken.png").write_bytes(b"broken")
    url = cloud.upload(pictures, "same/pictures")
    with chat_server(described) as server:
        assert ask(vd100k, server, "dataset=here").returncode == 0
        for overrides in (["shard=1/2"], ["shard=2/2"], []):
            done = ask(vd100k, server, f"images={url}/", "dataset=there", *overrides)
            assert done.returncode == 0, done.stderr
        assert len(server.requests) == 2 * 9, "nothing is asked twice"
        assert "rows pending: 1 of 10" in ask(vd100k, server, f"images={url}", "dataset=there", "dry_run=true").stdout
        shown = ask(vd100k, server, f"images={url}", "preview=2", "dataset=few")
        page = (tmp_path / "outputs/latest/preview.html").read_text(encoding="utf-8")
        assert page.count("data:image/webp") == 2, shown.stderr
    assert contents(tmp_path, "there") == contents(tmp_path, "here")
    assert len(contents(tmp_path, "there")) == 9
    row = json.loads((tmp_path / "outputs/data/there/details/gpt-4o.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert row["image"] == f"{url}/{row['id']}"
    failed = json.loads((tmp_path / "outputs/data/there/details/gpt-4o.failures.jsonl").read_text(encoding="utf-8"))
    assert (failed["id"], failed["reason"]) == ("broken.png", "image_unreadable")


def test_groups_samples_and_lists_work_as_from_a_folder(
    vd100k: Call, tmp_path: Path, pictures: Path, cloud: Storage
) -> None:
    draw_pictures(pictures / "a", 2, seed=1)
    url = cloud.upload(pictures, "several/pictures")
    (tmp_path / "l.jsonl").write_text(f'{{"image": "{url}/00.png"}}\n{{"image": "a/01.png"}}\n', encoding="utf-8")
    with chat_server(described) as server:
        for name, overrides in {"group": ["group=folder"], "sample": ["sample=3"]}.items():
            for place, images in {"here": "pictures", "there": url}.items():
                done = ask(vd100k, server, f"images={images}", f"dataset={name}-{place}", *overrides)
                assert done.returncode == 0, done.stderr
            assert len(contents(tmp_path, f"{name}-here")) == {"group": 1, "sample": 3}[name]
        listed = ask(vd100k, server, "images=l.jsonl", f"image_folder={url}", "dataset=listed")
        assert listed.returncode == 0, listed.stderr
        ask(vd100k, server, "images=l.jsonl", "image_folder=s3://photos/several/pictures/b", "dataset=outside")
    assert contents(tmp_path, "sample-there") == contents(tmp_path, "sample-here")
    assert [json.loads(row)["id"] for row in contents(tmp_path, "listed")] == ["00.png", "a/01.png"]
    failures = (tmp_path / "outputs/data/outside/details/gpt-4o.failures.jsonl").read_text(encoding="utf-8")
    assert "not in s3://photos/several/pictures/b, so it is not read" in failures
    grouped = json.loads((tmp_path / "outputs/data/group-there/details/gpt-4o.jsonl").read_text(encoding="utf-8"))
    assert grouped["images"] == [f"{url}/a/00.png", f"{url}/a/01.png"]
    assert len(grouped["images_etag"]) == 2


def test_a_changed_object_is_asked_about_again_and_a_touched_one_is_not(
    vd100k: Call, tmp_path: Path, pictures: Path, cloud: Storage
) -> None:
    url = cloud.upload(pictures, "changed/pictures")
    with chat_server(described) as server:
        ask(vd100k, server, f"images={url}")
        cloud.put("changed/pictures/00.png", (pictures / "01.png").read_bytes())
        cloud.put("changed/pictures/02.png", (pictures / "02.png").read_bytes())
        again = ask(vd100k, server, f"images={url}")
        assert "1 answers are about images that have changed since" in again.stdout
        assert len(server.requests) == 7
        ask(vd100k, server, f"images={url}")
        assert len(server.requests) == 7
    assert len({row["id"] for row in rows(tmp_path)}) == len(rows(tmp_path)) == 6


def test_an_object_that_vanishes_after_it_was_listed_is_a_failure(vd100k: Call, tmp_path: Path, cloud: Storage) -> None:
    url = cloud.upload(draw_pictures(tmp_path / "many", 60), "vanishing/pictures")

    def vanish(number: int, body: dict[str, Any]) -> str:
        if number == 0:
            cloud.delete("vanishing/pictures/59.png")
        return "a"

    with chat_server(vanish) as server:
        done = ask(vd100k, server, f"images={url}", "stage.max_in_flight=1")
    assert done.returncode == 0, done.stderr
    failed = (tmp_path / "outputs/data/pictures/details/gpt-4o.failures.jsonl").read_text(encoding="utf-8")
    assert json.loads(failed)["detail"] == f"{url}/59.png: there is no such object (any more)"
    assert len(rows(tmp_path)) == 59


def test_kill_9_in_the_middle_loses_nothing_and_asks_nothing_twice(
    vd100k: Call, tmp_path: Path, cloud: Storage
) -> None:
    url = cloud.upload(draw_pictures(tmp_path / "many", 60), "killed/pictures")
    killed_and_continued(vd100k, tmp_path, url, 60)


def killed_and_continued(vd100k: Call, tmp_path: Path, images: str, count: int) -> None:
    """Kill a run over ``images`` in the middle, run it again, and check that each image has one row."""
    reached = threading.Event()

    def slow(number: int, body: dict[str, Any]) -> str:
        if number == count // 2:
            reached.set()
        time.sleep(0.02)
        return "a"

    with chat_server(slow) as server:
        command = command_line(*asking(server), f"images={images}", "dataset=pictures", "stage.max_in_flight=4")
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert reached.wait(60)
            os.kill(process.pid, signal.SIGKILL)
        saved = len(rows(tmp_path))
        assert 0 < saved < count
        again = ask(vd100k, server, f"images={images}", "dataset=pictures")
        assert again.returncode == 0, again.stderr
        assert f"{saved} answers exist already" in again.stdout
        assert len(server.requests) <= count + 4, "only the requests in flight are repeated"
    assert len({row["id"] for row in rows(tmp_path)}) == len(rows(tmp_path)) == count


def test_later_stages_read_the_objects(
    vd100k: Call, tmp_path: Path, pictures: Path, cloud: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = cloud.upload(pictures, "stages/pictures")
    with chat_server(described) as server:
        assert ask(vd100k, server, f"images={url}").returncode == 0
        check_later_stages(vd100k, tmp_path, server, url, [f"{k:02d}.png" for k in range(6)])
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    check_conversion(vd100k, tmp_path, url, 6)  # what has been fetched is not fetched again


def check_conversion(vd100k: Call, tmp_path: Path, images: str, count: int) -> list[dict[str, Any]]:
    """Convert the rows, also with nothing checked; return the training rows, whose images must be files."""
    convert = ["stage=convert", "dataset=pictures", "model=gpt-4o", "stage.split_dataset_ratio=0"]
    off = [f"stage.rules.image_{rule}=false" for rule in ("missing", "unreadable", "changed", "small")]
    trained: list[list[dict[str, Any]]] = []
    for overrides in ([f"images={images}"], ["stage.folder=unchecked", *off]):
        done = vd100k(*convert, *overrides)
        assert done.returncode == 0, done.stderr
        made = json.loads((tmp_path / "outputs/latest/summary.json").read_text(encoding="utf-8"))
        assert made["counts"]["train"] == count
        lines = (tmp_path / made["outputs"][0]["path"]).read_text(encoding="utf-8").splitlines()
        trained.append([json.loads(line) for line in lines])
    for one, other in zip(*trained, strict=True):
        assert Path(one["images"][0]).read_bytes() == Path(other["images"][0]).read_bytes()
        assert Path(one["images"][0]).suffix == ".png"
    return trained[0]


def check_later_stages(vd100k: Call, tmp_path: Path, server: ChatServer, images: str, ids: list[str]) -> None:
    """The report, a conversion and an evaluation show and read the images of rows that were made before."""
    report = tmp_path / "outputs/latest/report.html"
    assert report.read_text(encoding="utf-8").count("data:image/webp") >= len(ids)
    trained = check_conversion(vd100k, tmp_path, images, len(ids))
    hashes = {row["image_sha256"] for row in rows(tmp_path)}
    assert {hashlib.sha256(Path(row["images"][0]).read_bytes()).hexdigest() for row in trained} == hashes
    labels = [json.dumps({"id": id, "answer": "a"}) for id in ids]
    (tmp_path / "labels.jsonl").write_text("\n".join(labels), encoding="utf-8")
    options = ["stage=evaluate", "dataset=pictures", "answers=m", "hardware=cpu", "stage.ask.check=false"]
    options += [f"stage.images={images}", "stage.labels=labels.jsonl", f"hardware.urls=[{server.url}]"]
    refused = vd100k(*options, f"paths.training={Path(trained[0]['images'][0]).parents[1]}")
    assert f"{len(ids)} of {len(ids)} held-out images are among the training images" in refused.stderr
    done = vd100k(*options, "stage.slices=[image_size]", "paths.training=nothing")
    assert done.returncode == 0, done.stderr
    assert report.read_text(encoding="utf-8").count("data:image/webp") >= len(ids)


@pytest.mark.parametrize(
    ("images", "environment", "message"),
    [
        ("s3://no-such-bucket/a", {}, "there is no bucket no-such-bucket"),
        ("s3://photos/nothing-here", {}, "Is it the right bucket and prefix?"),
        ("s3://photos/list.jsonl", {}, "a list must be a file"),
        ("s3://", {}, "the bucket is missing"),
        (
            "s3://photos/a",
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "there are no credentials: set AWS_ACCESS_KEY_ID",
        ),
        ("s3://photos/a", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "http://127.0.0.1:9 cannot be reached"),
        ("gs://photos/a", {"GOOGLE_APPLICATION_CREDENTIALS": "/no/such.json"}, "set GOOGLE_APPLICATION_CREDENTIALS"),
        ("az://photos/a", {}, "there are no credentials: set AZURE_STORAGE_ACCOUNT_NAME"),
    ],
)
def test_what_cannot_be_listed_is_one_message_before_anything_is_sent(
    vd100k: Call,
    cloud: Storage,
    monkeypatch: pytest.MonkeyPatch,
    images: str,
    environment: dict[str, str],
    message: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    with chat_server(described) as server:
        done = ask(vd100k, server, f"images={images}", "dataset=d", timeout=90)
        assert not server.requests
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 1000


def test_without_obstore_there_is_one_message_with_the_command_that_installs_it(
    vd100k: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "path/obstore").mkdir(parents=True)
    (tmp_path / "path/obstore/__init__.py").write_text("raise ImportError", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    done = ask(vd100k, "http://127.0.0.1:9/v1", "images=s3://photos/a")
    assert done.returncode == 1
    assert "s3:// needs obstore, which is not installed: pip install -e '.[cloud]'" in done.stderr


class Denying(BaseHTTPRequestHandler):
    """Answers as S3 does without the permission to list."""

    def do_GET(self) -> None:
        content = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def test_a_bucket_that_may_not_be_listed_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Denying) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        for name, value in Storage(f"http://127.0.0.1:{server.server_address[1]}").environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(DataError, match=r"s3://denied/a: access denied \(AccessDenied\): check AWS_ACCESS"):
            next(find_images("s3://denied/a"))
        server.shutdown()


def test_nothing_outside_the_declared_place_is_read() -> None:
    base = "s3://photos/a"
    assert below(base, "s3://photos/a/b.png") == below(f"{base}/", "b.png") == "s3://photos/a/b.png"
    for name in (
        "s3://photos/ab.png",
        "s3://other/a/b.png",
        "../b.png",
        "s3://photos/a/../b.png",
        "/etc/passwd",
        "",
        "x//y",
    ):
        assert below(base, name) is None, name
    assert below("/data", "s3://photos/a/b.png") is None


def test_other_stages_load_no_library_of_a_store(tmp_path: Path, pictures: Path) -> None:
    code = (
        "import sys; from vd100k.images.find import find_images; from vd100k.images.encode import encode\n"
        "from vd100k.images.resizing import SizeRule\n"
        f"for image in find_images({str(pictures)!r}): encode(image.path, SizeRule(28, 1, 1 << 20))\n"
        "print({'obstore', 'pyarrow', 'huggingface_hub', 'tarfile', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "set()\n"


def test_a_page_waits_only_once_for_a_server_out_of_reach(monkeypatch: pytest.MonkeyPatch, pictures: Path) -> None:
    for name, value in Storage("http://127.0.0.1:9").environment.items():
        monkeypatch.setenv(name, value)
    album = Album(["s3://out-of-reach/a", str(pictures)])
    assert album.picture("s3://out-of-reach/a/b.png") is None
    assert album.folders == [str(pictures)]
    assert album.picture(str(pictures / "00.png"))
