"""The page of stage=chat in a real Chromium: uploading images, asking questions, streaming answers, drawing boxes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from examples.ask import data_url
from tests.chat_server import ChatServer, Reply, chat_server
from tests.conftest import draw_pictures, free_ports
from tests.engine.browser import browser, needs_chromium  # noqa: F401  (a fixture)
from tests.engine.conftest import Fleet, Running

pytestmark = [pytest.mark.engine, needs_chromium]

BOX = "<ref>a dog</ref><box>(250,250),(750,750)</box>"
OWNED = "document.title='owned'"
HTML = f'''<img src="http://192.0.2.1/x.png" onerror="{OWNED}"><script>{OWNED}</script> **b**'''
CODE = "def f():\n    return 1"
OPENS_S = 60
ANSWERS_MS = 30_000


def script(number: int, body: dict[str, Any]) -> Reply:
    """The reply to the last question, as a model might give it."""
    question = [part["text"] for part in body["messages"][-1]["content"] if part["type"] == "text"][-1]
    if question == "too much":
        return 400, {}, json.dumps({"error": {"message": "At most 1 image(s) may be provided in one prompt."}})
    return {"box": BOX, "html": HTML, "code": CODE}.get(question, "Two pictures, one red and one blue.")


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with chat_server(script, "demo-vl") as server:
        yield server


@pytest.fixture(scope="module")
def address(
    launch: Callable[..., Running], server: ChatServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    api = ["hardware=api", f"hardware.urls=[{server.url}]", "model=qwen2.5-vl", "model.served_name=demo-vl"]
    port = free_ports(1)
    running = launch(tmp_path_factory.mktemp("chat"), "stage=chat", "task=vqa", f"stage.port={port}", *api)
    running.wait_for("Ctrl-C stops it", OPENS_S)
    yield f"http://127.0.0.1:{port}"
    assert running.interrupt() < 20
    assert running.process.returncode == 0, "".join(running.lines)


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:  # noqa: F811
    """A newly opened page; afterwards, fails if the page sent a request to any other server."""
    page = browser.new_page(viewport={"width": 900, "height": 1000})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    assert asked
    assert all(url.startswith((address, "data:", "blob:")) for url in asked), asked
    page.close()


def ask(page: Page, question: str, *images: Path) -> None:
    box = page.get_by_role("group", name="Multimedia input field").get_by_role("textbox")
    expect(box).to_be_enabled(timeout=ANSWERS_MS)
    if images:
        page.set_input_files("input[type=file]", images)
        expect(page.locator(".thumbnail-item")).to_have_count(len(images))
    box.fill(question)
    box.press("Enter")


def bot(page: Page, number: int) -> Any:
    return page.get_by_test_id("bot").nth(number)


def test_an_answer_is_streamed_and_its_box_is_drawn(page: Page, server: ChatServer, tmp_path: Path) -> None:
    picture = tmp_path / "white.png"
    Image.new("RGB", (400, 400), "white").save(picture)
    ask(page, "box", picture)
    expect(bot(page, 0)).to_contain_text("<ref>a")
    assert "</box>" not in bot(page, 0).inner_text(), "the answer appears before it is complete"
    expect(bot(page, 0)).to_contain_text(BOX, timeout=ANSWERS_MS)
    drawn = page.locator("[data-testid=bot] img, .bot img").last
    expect(drawn).to_be_visible(timeout=ANSWERS_MS)
    drawn.screenshot(path=tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as seen:
        shown = seen.convert("RGB")
    middle = [shown.getpixel((x, shown.height // 2)) for x in range(shown.width)]
    edges = [x for x, (red, green, _) in enumerate(middle) if red > 200 and green < 100]
    assert min(edges) == pytest.approx(shown.width / 4, abs=6)
    assert max(edges) == pytest.approx(shown.width * 3 / 4, abs=6)


def test_several_images_and_turns_use_the_settings(page: Page, server: ChatServer, tmp_path: Path) -> None:
    before = len(server.requests)
    images = sorted(draw_pictures(tmp_path / "two", 2).iterdir())
    page.get_by_text("Settings").click()
    expect(page.get_by_label("range slider for Max tokens")).to_be_visible()
    page.wait_for_timeout(1000)  # the content of the accordion is drawn again when it opens
    page.get_by_label("number input for Max tokens").fill("77")
    page.get_by_label("number input for Max tokens").blur()
    expect(page.get_by_label("range slider for Max tokens")).to_have_value("77")
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("System prompt").blur()
    page.wait_for_timeout(500)
    expect(page.get_by_label("System prompt")).to_have_value("Be brief.")
    ask(page, "What are they?", *images)
    expect(bot(page, 0)).to_contain_text("one blue.", timeout=ANSWERS_MS)
    ask(page, "And now?")
    expect(bot(page, 1)).to_contain_text("one blue.", timeout=ANSWERS_MS)
    request = server.requests[before + 1]
    assert request["max_tokens"] == 77
    assert request["stream"] is True
    system, first, answer, second = request["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in first["content"]] == ["image_url", "image_url", "text"]
    assert [part["image_url"]["url"] for part in first["content"][:2]] == [data_url(image) for image in images]
    assert answer == {"role": "assistant", "content": "Two pictures, one red and one blue."}
    assert second["content"] == [{"type": "text", "text": "And now?"}]


def test_html_is_shown_as_text_and_sent_back_unchanged(page: Page, server: ChatServer) -> None:
    ask(page, "html")
    expect(bot(page, 0)).to_contain_text("**b**", timeout=ANSWERS_MS)
    assert bot(page, 0).inner_text().strip() == HTML
    assert page.title() == "demo-vl"
    ask(page, "code")
    expect(bot(page, 1)).to_contain_text("return 1", timeout=ANSWERS_MS)
    ask(page, "more")
    expect(bot(page, 2)).to_contain_text("one blue.", timeout=ANSWERS_MS)
    assert [message["content"] for message in server.requests[-1]["messages"] if message["role"] == "assistant"] == [
        HTML,
        CODE,
    ]


def test_a_refusal_is_shown_and_the_conversation_continues(page: Page, server: ChatServer) -> None:
    ask(page, "too much")
    expect(page.get_by_text("At most 1 image(s)")).to_be_visible(timeout=ANSWERS_MS)
    ask(page, "and now?")
    expect(page.get_by_text("one blue.")).to_be_visible(timeout=ANSWERS_MS)
    assert [message["role"] for message in server.requests[-1]["messages"]] == ["user"]
    assert len(server.requests[-1]["messages"][0]["content"]) == 1, "the refused question must not be sent again"


def test_a_broken_image_is_named(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    ask(page, "box", broken)
    expect(page.get_by_text("broken.png: Truncated File Read", exact=True)).to_be_visible(timeout=ANSWERS_MS)


def test_a_real_model_gives_the_same_answer_as_through_the_api(
    launch: Callable[..., Running],
    fleet: Fleet,
    browser: Browser,  # noqa: F811
) -> None:
    port = free_ports(1)
    teacher = ["model=tiny-teacher", "model.images_per_prompt=2", "task=scene", "task.sampling.temperature=0"]
    running = launch(fleet.folder, "stage=chat", f"stage.port={port}", *teacher, *fleet.overrides)
    running.wait_for("Ctrl-C stops it", OPENS_S)
    assert any("using the server that is already running at" in line for line in running.lines)
    image = next(iter(sorted((fleet.folder / "outputs/images/scenes-42/heldout").glob("*.png"))))
    client = OpenAI(base_url=f"http://127.0.0.1:{fleet.port}/v1", api_key="none")
    question = "Describe the picture as JSON."
    content = [
        {"type": "image_url", "image_url": {"url": data_url(image)}},
        {"type": "text", "text": question},
    ]
    answer = client.chat.completions.create(
        model="tiny-teacher", messages=[{"role": "user", "content": content}], temperature=0, max_tokens=64
    )
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{port}")
    ask(page, question, image)
    expect(bot(page, 0)).to_contain_text((answer.choices[0].message.content or "")[:20], timeout=ANSWERS_MS)
    page.close()
    running.interrupt()
