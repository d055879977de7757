"""The ledger: every row once, after any interruption."""

from __future__ import annotations

import json
import resource
import threading
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.errors import DataError
from vd100k.io.jsonl import read_rows
from vd100k.io.key_set import KeySet, row_key
from vd100k.ledger.known import Failure, Known
from vd100k.ledger.partial import slice_path
from vd100k.ledger.rows import Ledger, LedgerBusy

SETTINGS = {"model": "m", "prompt": "p"}
texts = st.text(st.characters(codec=None))  # includes lone surrogates, which models write


def row(id: str, answer: str = "a") -> dict[str, str]:
    return {"id": id, "answer": answer}


def has_exactly(keys: KeySet, *ids: str) -> bool:
    """Whether the set contains the keys of these ids and no others."""
    return set(keys) == {row_key(id) for id in ids}


def append_all(ledger: Ledger, ids: list[str]) -> None:
    for id in ids:
        ledger.append(row(id))


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8")))))
def test_rows_are_read_as_they_were_appended(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "rows.jsonl"
    with Ledger(path, SETTINGS) as ledger:
        for id, answer in pairs:
            ledger.append(row(id, answer))
    assert list(read_rows(path)) == [row(id, answer) for id, answer in pairs]


@given(texts)
def test_any_text_of_a_model_can_be_stored(tmp_path_factory: pytest.TempPathFactory, answer: str) -> None:
    path = tmp_path_factory.mktemp("ledger") / "rows.jsonl"
    with Ledger(path, SETTINGS) as ledger:
        ledger.append(row("1", answer))
    assert len(list(read_rows(path))) == 1


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, unique=True), st.integers(0, 10_000))
def test_a_crash_at_any_byte_loses_only_the_torn_row(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], cut: int
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "rows.jsonl"
    with Ledger(path, SETTINGS) as ledger:
        append_all(ledger, ids)
    whole = path.read_bytes()
    path.write_bytes(whole[: cut % (len(whole) + 1)])
    kept = path.read_bytes().count(b"\n")
    with Ledger(path, SETTINGS) as ledger:
        assert has_exactly(ledger.done, *ids[:kept])
        append_all(ledger, ids[kept:])
    assert path.read_bytes() == whole


def test_a_failure_is_removed_once_it_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with Ledger(path, SETTINGS) as ledger:
        ledger.fail("1", "timeout", "no answer", 4)
        ledger.fail("2", "http_400", "too large", 1)
        ledger.append(row("1"))
    with Ledger(path, SETTINGS) as ledger:
        assert has_exactly(ledger.done, "1")
        assert ledger.failed == {row_key("2"): Failure("http_400", False)}
    (failure,) = read_rows(tmp_path / "rows.failures.jsonl")
    assert failure == {"id": "2", "reason": "http_400", "detail": "too large", "attempts": 1, "retryable": False}


def test_a_failure_without_the_field_retryable_counts_as_retryable(tmp_path: Path) -> None:
    (tmp_path / "rows.failures.jsonl").write_text('{"id": "1", "reason": "http_400"}\n', encoding="utf-8")
    with Ledger(tmp_path / "rows.jsonl", SETTINGS) as ledger:
        assert ledger.failed == {row_key("1"): Failure("http_400", True)}


def test_settings_with_a_path_that_is_not_utf8_are_recognised_again(tmp_path: Path) -> None:
    settings = SETTINGS | {"questions": "\udcff.jsonl"}
    for expected in (0, 1):
        with Ledger(tmp_path / "rows.jsonl", settings) as ledger:
            assert len(ledger.done) == expected
            ledger.append(row("1"))


def test_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with Ledger(path, SETTINGS) as ledger:
        ledger.append(row("1"))
    with pytest.raises(DataError, match="prompt was 'p' and is now 'q'"), Ledger(path, SETTINGS | {"prompt": "q"}):
        pass
    assert len(list(read_rows(path))) == 1


def test_rows_of_other_settings_are_set_aside_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with Ledger(path, SETTINGS) as ledger:
        ledger.append(row("1", "old"))
    with Ledger(path, SETTINGS | {"prompt": "q"}, "set_aside") as ledger:
        assert not ledger.done
        ledger.append(row("1", "new"))
    assert [r["answer"] for r in read_rows(path)] == ["new"]
    aside = list(tmp_path.glob("rows.jsonl.*"))
    assert [r["answer"] for r in read_rows(aside[0])] == ["old"]
    with Ledger(path, SETTINGS, "set_aside") as ledger:
        assert has_exactly(ledger.done, "1"), "rows that were set aside come back with their settings"
    assert [r["answer"] for r in read_rows(path)] == ["old"]


def test_the_rows_of_changed_images_are_set_aside_while_others_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with Ledger(path, SETTINGS) as ledger:
        append_all(ledger, ["1", "2", "3"])
    with Ledger(path, SETTINGS, is_current=lambda row: row["id"] != "2") as ledger:
        append_all(ledger, ["4"])
        changed = ledger.changed_rows()
        assert has_exactly(changed, "2")
        ledger.set_aside(changed)
        ledger.append(row("2", "new"))
        assert ledger.sync() == 2
    assert [(r["id"], r["answer"]) for r in read_rows(path)] == [("1", "a"), ("3", "a"), ("4", "a"), ("2", "new")]
    assert list(read_rows(tmp_path / "rows.outdated.jsonl")) == [row("2")]


def test_of_several_sets_that_were_set_aside_the_last_one_comes_back(tmp_path: Path) -> None:
    path, other = tmp_path / "rows.jsonl", SETTINGS | {"prompt": "q"}
    for settings, answer in ((SETTINGS, "first"), (other, "other")):
        with Ledger(path, settings, "set_aside") as ledger:
            ledger.append(row("1", answer))
    for kept in list(tmp_path.glob("rows.*.????????")):  # a second set with the same settings, made later
        later = kept.with_name(f"{kept.name}.2")
        later.write_text(kept.read_text(encoding="utf-8").replace("first", "second"), encoding="utf-8")
    with Ledger(path, SETTINGS, "set_aside"):
        assert [r["answer"] for r in read_rows(path)] == ["second"]
    with Ledger(path, other, "set_aside"):
        assert [r["answer"] for r in read_rows(path)] == ["other"]
    assert len(list(tmp_path.glob("rows.jsonl.*"))) == 2, "no set is overwritten"


def test_rows_come_back_even_if_less_was_known_about_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for settings, answer in ((SETTINGS | {"loaded_from": "a"}, "first"), (SETTINGS | {"prompt": "q"}, "second")):
        with Ledger(path, settings, "set_aside") as ledger:
            ledger.append(row("1", answer))
    with Ledger(path, SETTINGS, "set_aside") as ledger:
        assert has_exactly(ledger.done, "1")
    assert [r["answer"] for r in read_rows(path)] == ["first"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_broken_settings_are_an_error_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    with Ledger(path, SETTINGS) as ledger:
        ledger.append(row("1"))
    settings = tmp_path / "rows.settings.json"
    settings.write_bytes(content)
    with pytest.raises(DataError, match=r"rows.settings.json is broken.*remove this file"), Ledger(path, SETTINGS):
        pass
    settings.unlink()
    with Ledger(path, SETTINGS) as ledger:
        assert has_exactly(ledger.done, "1")


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with Ledger(path, SETTINGS), pytest.raises(DataError, match="another process"), Ledger(path, SETTINGS):
        pass


def test_a_full_disk_is_a_readable_error_and_loses_no_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    ids = [f"{k:03d}" for k in range(100)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Ledger(path, SETTINGS) as ledger:
        # A limit on the file size acts like a full disk: the write that reaches it is cut short.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with pytest.raises(DataError, match=r"could not be written: No space left.*make room"):
                append_all(ledger, ids)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with Ledger(path, SETTINGS) as ledger:
        kept = len(ledger.done)
        assert 0 < kept < len(ids)
        append_all(ledger, ids[kept:])
    assert [r["id"] for r in read_rows(path)] == ids


def test_damaged_lines_are_moved_to_a_file_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    good = [json.dumps(row(id)).encode() + b"\n" for id in ("1", "2")]
    path.write_bytes(good[0] + b'{"id": "3", oo\xff\n[]\n' + good[1] + b'{"id": "4"')
    with Ledger(path, SETTINGS) as ledger:
        assert has_exactly(ledger.done, "1", "2")
    assert path.read_bytes() == b"".join(good), "the torn last line is removed"
    assert (tmp_path / "rows.corrupt.jsonl").read_bytes() == b'{"id": "3", oo\xff\n[]\n'
    assert "2 damaged lines were moved" in " ".join(capsys.readouterr().out.split())


def test_rows_of_a_preview_and_of_other_machines_are_joined(tmp_path: Path) -> None:
    for name, ids in (("m.preview", "1"), ("m.shard-1-of-2", "12"), ("m.shard-2-of-2", "3"), ("m.other", "4")):
        with Ledger(tmp_path / f"{name}.jsonl", SETTINGS) as ledger:
            append_all(ledger, list(ids))
    with Ledger(tmp_path / "m.jsonl", SETTINGS) as ledger:
        assert has_exactly(ledger.done, "1", "2", "3")
        assert ledger.sync() == 0, "joined rows are not new"
    assert [r["id"] for r in read_rows(tmp_path / "m.jsonl")] == ["1", "2", "3"]


def test_a_slice_is_moved_with_its_failures(tmp_path: Path) -> None:
    whole = tmp_path / "m.jsonl"
    with Ledger(whole, SETTINGS) as ledger:
        ledger.append(row("1"))
        ledger.fail("2", "http_400", "", 1)
    known = Known(whole, ledger.done, ledger.failed)
    with Ledger(slice_path(whole, 1, 2), SETTINGS, whole=known) as part:
        append_all(part, ["1", "3"])
        part.fail("4", "http_400", "no", 1)
        part.fail("1", "http_400", "answered elsewhere", 1)
    with Ledger(whole, SETTINGS) as ledger:
        assert has_exactly(ledger.done, "1", "3")
        assert set(ledger.failed) == {row_key("2"), row_key("4")}
        with Ledger(slice_path(whole, 2, 2), SETTINGS) as part:
            append_all(part, ["2", "5"])
        assert ledger.absorb(part.path) == 2
        assert set(ledger.failed) == {row_key("4")}
    assert [r["id"] for r in read_rows(whole)] == ["1", "3", "2", "5"]
    assert [r["id"] for r in read_rows(tmp_path / "m.failures.jsonl")] == ["4"]
    assert not list(tmp_path.glob("*slice*"))
    assert not list(tmp_path.glob(".*slice*"))


def test_a_slice_that_another_run_set_aside_is_found_again(tmp_path: Path) -> None:
    whole, other = tmp_path / "m.jsonl", SETTINGS | {"prompt": "another one"}
    with Ledger(slice_path(whole, 1, 2), SETTINGS) as part:
        part.append({"id": "a.png", "answer": "one"})
    with Ledger(slice_path(whole, 1, 2), other, if_changed="set_aside") as part:
        part.append({"id": "a.png", "answer": "two"})
    for settings, answer in ((other, "two"), (SETTINGS, "one")):
        with Ledger(whole, settings, if_changed="set_aside") as ledger:
            assert ledger.done
        assert [row["answer"] for row in read_rows(whole)] == [answer]


def test_a_slice_waits_for_the_process_that_holds_it(tmp_path: Path) -> None:
    path = slice_path(tmp_path / "m.jsonl", 1, 2)
    held, dying = threading.Event(), threading.Event()

    def hold() -> None:
        with Ledger(path, SETTINGS) as ledger:
            ledger.append(row("1"))
            held.set()
            dying.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    with pytest.raises(LedgerBusy), Ledger(path, SETTINGS, wait_s=0.1):
        pass
    threading.Timer(0.2, dying.set).start()
    with Ledger(path, SETTINGS, wait_s=60) as next_one:
        assert has_exactly(next_one.done, "1")
    holder.join()


def test_answers_are_found_in_a_slice_and_in_the_whole(tmp_path: Path) -> None:
    whole = tmp_path / "m.jsonl"
    with Ledger(whole, SETTINGS) as ledger:
        ledger.append(row("1", "first"))
    known = Known(whole, ledger.done, ledger.failed)
    with Ledger(slice_path(whole, 1, 1), SETTINGS) as part:
        part.append(row("2", "second"))
    with Ledger(part.path, SETTINGS, whole=known) as part:
        assert part.answers([row_key("1"), row_key("2"), row_key("3")]) == ["first", "second"]


def test_rows_that_are_set_aside_are_not_done(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    with Ledger(path, SETTINGS) as ledger:
        append_all(ledger, ["1", "2", "3"])
    keys = KeySet()
    keys.add(row_key("2"))
    with Ledger(path, SETTINGS) as ledger:
        ledger.set_aside(keys)
        assert has_exactly(ledger.done, "1", "3")
        assert len(ledger.done) == 2


def test_a_shard_that_was_made_differently_is_refused_and_a_preview_is_not_joined(tmp_path: Path) -> None:
    for name in ("m.preview", "m.shard-1-of-2"):
        with Ledger(tmp_path / f"{name}.jsonl", SETTINGS | {"prompt": "q"}) as ledger:
            ledger.append(row("1"))
    with (
        pytest.raises(DataError, match=r"shard-1-of-2.jsonl cannot be joined.*prompt was 'q' and is now 'p'"),
        Ledger(tmp_path / "m.jsonl", SETTINGS),
    ):
        pass
    for path in tmp_path.glob("m.shard-*"):
        path.unlink()
    with Ledger(tmp_path / "m.jsonl", SETTINGS) as ledger:
        assert not ledger.done


def test_rows_count_as_saved_when_they_are_on_the_disk(tmp_path: Path) -> None:
    with Ledger(tmp_path / "rows.jsonl", SETTINGS) as ledger:
        append_all(ledger, ["1", "2"])
        assert ledger.saved == 0
        assert ledger.sync() == ledger.saved == 2


@given(st.lists(st.text(st.characters(codec="utf-8")), unique=True), st.randoms())
def test_the_sorted_file_has_the_rows_in_the_given_order(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], random: Random
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "rows.jsonl"
    order = random.sample(ids, len(ids))
    with Ledger(path, SETTINGS) as ledger:
        append_all(ledger, ids)
        ledger.sort(path.with_name("sorted.jsonl"), map(row_key, [*order, "missing"]))
    assert [r["id"] for r in read_rows(path.with_name("sorted.jsonl"))] == order
