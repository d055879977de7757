"""Images in tar and Parquet files: the same rows as from the folder, and archives that are broken or unclear."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tests.chat_server import chat_server
from tests.conftest import draw_pictures
from tests.unit.generation.test_run import ask, rows
from tests.unit.stores.test_objects import check_later_stages, contents, described, killed_and_continued
from vd100k.errors import DataError
from vd100k.images.encode import encode
from vd100k.images.find import Selection, count_images, find_images
from vd100k.images.groups import ImageRef
from vd100k.images.ignored import Ignored
from vd100k.images.resizing import SizeRule
from vd100k.stores import files

Call = Callable[..., subprocess.CompletedProcess[str]]
MAKERS = ("tar", "parquet")


def tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1.5  # such a time needs a further header
            file.addfile(member, io.BytesIO(content))
    return path


def table(path: Path, **columns: list[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path, row_group_size=4)
    return path


def packed(folder: Path, kind: str, target: Path, most: int = 4) -> dict[str, str]:
    """Pack the pictures of a folder into archives of at most ``most``; return the id of each in terms of its name."""
    pictures, ids = sorted(folder.iterdir()), {}
    for start in range(0, len(pictures), most):
        some = pictures[start : start + most]
        path = target / f"{start:05d}.{kind}"
        if kind == "tar":
            texts = {f"./{one.stem}.json": b"{}" for one in some}
            tar(path, {f"./{one.name}": one.read_bytes() for one in some} | texts)
            ids |= {f"{path.name}/{one.name}": one.name for one in some}
        else:
            table(path, image=[{"bytes": one.read_bytes(), "path": one.name} for one in some], n=list(range(len(some))))
            ids |= {f"{path.name}/image/{number}": one.name for number, one in enumerate(some)}
    return ids


def found(images: Path | str, selection: Selection = Selection()) -> tuple[list[ImageRef], list[str], Ignored]:  # noqa: B008
    """The images, the reasons of what was rejected, and what was ignored."""
    rejected: list[str] = []
    ignored = Ignored()
    images = list(find_images(str(images), selection, None, lambda *one: rejected.append(one[2]), ignored))
    return images, rejected, ignored


@pytest.mark.parametrize("kind", MAKERS)
def test_the_rows_are_those_of_the_folder(vd100k: Call, tmp_path: Path, pictures: Path, kind: str) -> None:
    ids = packed(pictures, kind, tmp_path / "shards")
    with chat_server(described) as server:
        assert ask(vd100k, server, "dataset=here").returncode == 0
        for images in ("shards", f"shards/*.{kind}", f"{tmp_path}/shards/00000.{kind}"):
            done = ask(vd100k, server, f"images={images}", "dataset=pictures")
            assert done.returncode == 0, done.stderr
        assert len(server.requests) == 2 * 6, "all of them are the same images"
        written = contents(tmp_path, "pictures")
        for id, name in ids.items():
            written = [row.replace(f'"id": "{id}"', f'"id": "{name}"') for row in written]
        assert sorted(written) == contents(tmp_path, "here")
        done = ask(vd100k, server, "images=shards", "dataset=pictures")  # whose report shows them
        check_later_stages(vd100k, tmp_path, server, "shards", list(ids))


@pytest.mark.parametrize("kind", MAKERS)
def test_kill_9_in_the_middle_loses_nothing_and_asks_nothing_twice(vd100k: Call, tmp_path: Path, kind: str) -> None:
    packed(draw_pictures(tmp_path / "many", 60), kind, tmp_path / "shards", 20)
    killed_and_continued(vd100k, tmp_path, "shards", 60)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_rewritten_archive_is_asked_about_only_where_it_has_changed(
    vd100k: Call, tmp_path: Path, pictures: Path, kind: str
) -> None:
    packed(pictures, kind, tmp_path / "shards")
    with chat_server(described) as server:
        ask(vd100k, server, "images=shards", "dataset=pictures")
        (pictures / "01.png").write_bytes((pictures / "04.png").read_bytes())
        packed(pictures, kind, tmp_path / "shards")
        again = ask(vd100k, server, "images=shards", "dataset=pictures")
        assert "1 answers are about images that have changed since" in again.stdout
        assert len(server.requests) == 7
    assert len({row["id"] for row in rows(tmp_path)}) == len(rows(tmp_path)) == 6


def test_archives_in_a_folder_of_images_are_ignored_and_counted(tmp_path: Path, pictures: Path) -> None:
    packed(pictures, "tar", pictures / "sub")
    images, _, ignored = found(pictures)
    assert len(images) == 6
    assert ignored == {".tar": 2}
    assert found(pictures / "sub")[2] == {".json": 6}


def test_the_first_images_of_an_archive_need_no_look_at_the_others(tmp_path: Path, pictures: Path) -> None:
    packed(pictures, "tar", tmp_path / "shards")
    (tmp_path / "shards/00004.tar").write_bytes(b"broken")
    images, rejected, _ = found(tmp_path / "shards", Selection(limit=4))
    assert [len(images), rejected] == [4, []]
    assert count_images(str(tmp_path / "shards")) == 4
    assert len(found(tmp_path / "shards")[1]) == 1


def test_columns_of_images_are_recognised_or_chosen(tmp_path: Path) -> None:
    content = [b"a", b"b"]
    binary = table(tmp_path / "binary.parquet", picture=content, text=["x", "y"])
    assert [image.id for image in found(binary)[0]] == ["binary.parquet/picture/0", "binary.parquet/picture/1"]
    two = table(tmp_path / "two.parquet", one=content, other=content[::-1])
    with pytest.raises(DataError, match=r"one, other are columns of images: choose one with images=FILE.parquet/one"):
        found(two)
    for images in (f"{two}/other", f"{tmp_path}/t*.parquet/other"):
        assert [files.read(image.path)[0] for image in found(images)[0]] == [b"b", b"a"]
    with pytest.raises(DataError, match="no column mask of images"):
        found(f"{two}/mask")
    with pytest.raises(DataError, match="no column of images"):
        found(table(tmp_path / "text.parquet", text=["x"]))


def test_a_row_without_an_image_is_a_failure_of_its_own(tmp_path: Path, pictures: Path) -> None:
    content = (pictures / "00.png").read_bytes()
    path = table(
        tmp_path / "t.parquet", image=[{"bytes": content, "path": None}, {"bytes": None, "path": "a.png"}, None]
    )
    first, second, third = found(path)[0]
    assert encode(first.path, SizeRule(28, 1, 1 << 20)).facts["image_sha256"]
    for image, reason in ((second, "names the file a.png instead of holding it"), (third, "has no image")):
        with pytest.raises(OSError, match=reason):
            files.read(image.path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tar", b"no tar", "no tar file, or a broken or truncated one"),
        ("a.parquet", b"no parquet", "no Parquet file, or a broken one"),
        ("a.tar.gz", b"x", "decompress it"),
        ("a.zip", b"x", "neither a folder of images nor a list"),
    ],
)
def test_what_is_no_archive_is_one_message(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        found(tmp_path / name)
    with pytest.raises(DataError, match=r"no \.tar or \.parquet file has such a name"):
        found(tmp_path / "none*.tar")


def test_a_member_that_would_lead_out_of_its_archive_is_not_named(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "a.tar", {"../b.png": b"b", "/c.png": b"c", "x/./d.png": b"d", ".hidden/e.png": b"e", "f.png": b"f"}
    )
    assert [image.id for image in found(path)[0]] == ["a.tar/f.png"]
    with pytest.raises(OSError, match="no such member"):
        files.read(f"{path}/g.png")


def test_a_tar_file_can_be_read_while_it_is_listed(tmp_path: Path) -> None:
    members = {f"{k}.png": str(k).encode() for k in range(10_000)}
    path = tar(tmp_path / "a.tar", members)
    wrong: list[str] = []

    def read(names: list[str]) -> None:
        wrong.extend(name for name in names if files.read(f"{path}/{name}")[0] != members[name])

    threads = []
    for number, image in enumerate(find_images(str(path))):
        name = image.id.removeprefix("a.tar/")
        if number % 1000 == 0:
            threads.append(threading.Thread(target=read, args=([name, "9999.png", "0.png"],)))
            threads[-1].start()
    for thread in threads:
        thread.join()
    assert wrong == []


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=120).filter(
    lambda name: not {"", ".", ".."} & set(name.split("/")) and name.strip() == name and "/." not in f"/{name}"
)


@settings(max_examples=50)
@given(st.dictionaries(NAMES.map(lambda name: f"{name}.png"), st.binary(max_size=2000), min_size=1, max_size=12))
def test_every_member_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, members: dict[str, bytes]
) -> None:
    path = tar(tmp_path_factory.mktemp("tar") / "a.tar", members)
    images, rejected, _ = found(path)
    assert {image.id.removeprefix("a.tar/"): files.read(image.path)[0] for image in images} == members
    assert rejected == []


@settings(max_examples=100)
@given(st.data())
def test_a_truncated_tar_file_is_never_taken_for_a_whole_one(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    members = {f"{k}.png": bytes([k]) * 700 for k in range(4)}
    path = tar(tmp_path_factory.mktemp("tar") / "a.tar", members)
    whole = path.read_bytes()
    end = 4 * (3 * 512 + 1024)  # of each member two headers, a block of the first, and two blocks of content
    length = data.draw(st.integers(1, end - 1).filter(lambda length: length % (end // 4)))
    path.write_bytes(whole[:length])
    reasons: list[str] = []
    try:
        for image in find_images(str(path), reject=lambda id, reason, detail: reasons.append(detail)):
            try:
                assert files.read(image.path)[0] == members[image.id.removeprefix("a.tar/")]
            except OSError as error:
                reasons.append(str(error))
    except DataError as error:
        reasons.append(str(error))
    assert any("truncated" in reason for reason in reasons)


def test_a_list_may_name_images_in_archives(vd100k: Call, tmp_path: Path, pictures: Path) -> None:
    packed(pictures, "tar", tmp_path / "shards")
    (tmp_path / "l.csv").write_text("image\nshards/00000.tar/01.png\nshards/00000.tar/none.png\n", encoding="utf-8")
    with chat_server(described) as server:
        done = ask(vd100k, server, "images=l.csv", "dataset=pictures")
    assert [row["id"] for row in rows(tmp_path)] == ["shards/00000.tar/01.png"], done.stderr
    failed = (tmp_path / "outputs/data/pictures/details/gpt-4o.failures.jsonl").read_text(encoding="utf-8")
    assert "no such member" in json.loads(failed)["detail"]
