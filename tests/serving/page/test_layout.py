"""The page as visitors meet it: headless Chromium on a `ppl demo` of a tiny model; pictures go to runs/screenshots."""

import io
import json
import re
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import expect

from ppl.datamodules.synthetic.world import random_scene, render
from ppl.datamodules.synthetic.writer import write_video
from ppl.training_cli import run_training_cli
from tests.recipes.discovery import SMALL_QUESTIONS
from tests.serving.page.browser import LAPTOP, PHONE, QUESTION, ROOT, Visitor, chromium, demo

SQUARE, RING = "what colour is the square ?", "which way does the ring move ?"
MAX_TOKENS, MAX_SECONDS = 12, 5


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of two steps, made to talk: otherwise it would end its answers at once."""
    folder = tmp_path_factory.mktemp("run")
    recipes = ["-c", "recipes/experiments/tiny_sft.yaml", "-c", "recipes/overlays/debug.yaml", "--model.alignment=null"]
    quiet = ["--trainer.logger=false", "--trainer.enable_progress_bar=false", f"--trainer.default_root_dir={folder}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        run_training_cli(["fit", *recipes, *SMALL_QUESTIONS, *quiet])
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    content["state_dict"]["model.backbone.hf.lm_head.weight"][:5] = 0  # <pad> <s> </s> <unk> <image>
    torch.save(content, folder / "talkative.ckpt")
    return folder / "talkative.ckpt"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def url(checkpoint, tmp_path_factory, browser):
    """The server's address; it ends in order while a visitor is there, and nothing of its visitors is left on disk."""
    options = [f"--checkpoint={checkpoint}", f"--max-tokens={MAX_TOKENS}", f"--max-video-seconds={MAX_SECONDS}"]
    temporary = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        with demo(*options) as url:
            yield url
            last = Visitor(browser, url)
            with last.page.expect_response(re.compile("queue/data")):
                last.page.click("#restart")
            folders = list(temporary.glob("ppl-serve-*"))
            assert [path.stat().st_mode & 0o77 for path in folders] == [0], "for one user only"
    assert not folders[0].exists()


@pytest.fixture
def arrive(browser, url):
    """Let visitors come; when they go, nothing was asked of another server, and nothing was complained about."""
    visitors = []

    def come(device=LAPTOP):
        visitors.append(Visitor(browser, url, device))
        return visitors[-1]

    yield come
    for visitor in visitors:
        visitor.close()
        assert visitor.requests
        assert [request for request in visitor.requests if not request.startswith((url, "data:"))] == []
        assert visitor.complaints == []


@pytest.fixture
def visitor(arrive, clip):
    visitor = arrive()
    visitor.upload(clip)
    return visitor


def test_a_file_is_dropped_and_asked_about_and_the_picture_changes(visitor):
    page = visitor.page
    plain = visitor.pictures()
    assert len(set(plain)) == 4
    page.evaluate("""() => {
        window.lengths = new Set();
        const note = () => lengths.add(document.querySelector('.answer')?.innerText.length);
        new MutationObserver(note).observe(document.body, {subtree: true, childList: true, characterData: true});
    }""")
    visitor.ask(SQUARE)
    assert len(visitor.answers()[0].split()) >= MAX_TOKENS // 2
    pieces = page.evaluate("[...lengths].filter(length => length > 1)")  # longer than the dots that stand for it
    assert len(pieces) > 2, "the answer came all at once, and then how it ended"
    assert page.input_value(QUESTION) == ""
    first = visitor.pictures()
    visitor.ask(RING)
    second = visitor.pictures()
    assert len({plain[1], first[1], second[1]}) == 3
    assert page.locator(".exchange h3").all_inner_texts() == [SQUARE, RING]
    page.get_by_label(f"1. {SQUARE}").check()
    expect(page.locator("#frames img").nth(1)).to_have_attribute("src", first[1])
    page.get_by_label("the frames as they are").check()
    expect(page.locator("#frames img").nth(1)).to_have_attribute("src", plain[1])
    page.click("#restart")
    expect(page.locator(".exchange")).to_have_count(0)


def test_poolers_and_budgets_are_switched_and_compared(visitor):
    page = visitor.page
    page.check("#compare input")
    visitor.choose("pooler-one", "none")
    visitor.choose("pooler-other", "average")
    page.fill("#budget-other input[type=number]", "4")
    page.keyboard.press("Tab")
    expect(page.locator("#counts")).to_contain_text(
        "none: 144 visual tokens; average, at most 4 tokens: 4 visual tokens"
    )
    visitor.ask(SQUARE, num_answers=2)
    articles = page.locator(".exchange article").all()
    assert [article.locator(".way").inner_text() for article in articles] == ["none", "average, at most 4 tokens"]
    boxes = [article.bounding_box() for article in articles]
    assert boxes[0]["y"] == boxes[1]["y"], "side by side"
    for article, tokens in zip(articles, (144, 4), strict=True):
        assert article.locator("td").first.inner_text() == str(tokens)
        told = article.locator("td").all_inner_texts()[2:]
        assert len(told) == 7
        assert all(re.fullmatch(r"\d+\.\d ms", stage) for stage in told)
    visitor.screenshot("laptop.png")
    page.uncheck("#compare input")
    expect(page.locator("#counts")).not_to_contain_text("average")
    visitor.until(lambda: page.click("#again"), page.locator(".replies-1"))
    visitor.wait(1)
    page.fill("#budget-one input[type=number]", "5")
    page.keyboard.press("Tab")
    expect(page.locator("#counts")).to_contain_text("got a budget of 5 tokens for NoPooler")


def test_transcript_and_heat_map_are_downloaded(visitor):
    visitor.ask(SQUARE)
    files = {}
    for name in ("markdown", "json", "heatmap"):
        with visitor.page.expect_download() as download:
            visitor.page.click(f"#get-{name}")
        files[download.value.suggested_filename] = Path(download.value.path()).read_bytes()
    answer = visitor.answers()[0].partition(" (")[0]
    told = json.loads(files["transcript.json"])
    assert [(exchange["question"], exchange["answers"][0]["answer"]) for exchange in told["exchanges"]] == [
        (SQUARE, answer)
    ]
    assert told["clip"] == "clip.mp4"
    assert f"## 1. {SQUARE}" in files["transcript.md"].decode()
    assert answer in files["transcript.md"].decode()
    picture = Image.open(io.BytesIO(files["heatmap.png"]))
    assert picture.format == "PNG"
    assert picture.width == 4 * 192
    assert np.asarray(picture).std() > 5


def test_mistakes_are_said_in_words(visitor, tmp_path):
    page = visitor.page
    alert = page.get_by_role("alert").filter(has_text="got")
    (tmp_path / "letter.mp4").write_text("Dear all")
    write_video(tmp_path / "long.mp4", render(random_scene(np.random.default_rng(0), num_frames=24)))
    for name, words in (
        ("letter.mp4", "got letter.mp4, which is no whole video"),
        ("long.mp4", "got 6.0 s of video, expected at most 5 s"),
    ):
        page.set_input_files("#upload input[type=file]", tmp_path / name)
        expect(alert).to_contain_text(words)
        assert not re.search(r"/tmp|Traceback|Error", alert.inner_text())
    expect(page.locator("#frames .caption")).to_contain_text("clip.mp4")
    page.press(QUESTION, "Enter")
    expect(alert).to_contain_text("got an empty question")
    visitor.ask(SQUARE)
    expect(page.locator("#problem")).to_be_hidden()


def test_what_is_written_stays_text(visitor):
    hostile = "<img src=x onerror=\"document.title='hit'\"> ${document.title='hit'} {{value}} <b>bold</b>"
    visitor.ask(hostile)
    assert visitor.page.locator(".exchange h3").inner_text() == hostile
    assert visitor.page.locator(".exchange :is(img, b)").count() == 0
    assert visitor.page.title() != "hit"


def test_visitors_see_nothing_of_each_other(visitor, arrive, url, clip):
    visitor.ask(SQUARE)
    other = arrive()
    assert other.page.locator(".exchange").count() == 0
    assert other.pictures() == []
    other.page.click("#example-2")
    expect(other.page.locator("#frames .caption")).to_contain_text("example-2.mp4")
    other.page.click("#suggestions button >> nth=0")
    other.wait(1)
    assert visitor.page.locator(".exchange h3").all_inner_texts() == [SQUARE]
    assert "clip.mp4" in visitor.page.inner_text("#frames .caption")
    visitor.ask(RING)
    assert other.page.locator(".exchange").count() == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("gradio_api/file=/etc/hostname", None, 404),
        ("gradio_api/file=http://127.0.0.1:1/", None, 404),
        ("gradio_api/queue/join", {"data": [{"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}]}, 400),
        (
            "gradio_api/queue/join",
            {"data": [{"path": "http://127.0.0.1:1/", "meta": {"_type": "gradio.FileData"}}]},
            400,
        ),
    ],
)
def test_files_of_the_server_are_out_of_reach(url, path, body, status):
    data = None if body is None else json.dumps({"fn_index": 0, "session_hash": "abc", **body}).encode()
    with pytest.raises(HTTPError) as refused:
        urlopen(Request(url + path, data, {"Content-Type": "application/json"}), timeout=30)
    assert refused.value.code == status
    assert "error" in json.load(refused.value)


def test_no_event_falls_between_two_streams(url):
    config = json.load(urlopen(f"{url}config", timeout=30))
    send = next(each["id"] for each in config["components"] if each["props"].get("elem_id") == "send")
    ask = next(each for each in config["dependencies"] if [send, "click"] in [list(pair) for pair in each["targets"]])
    body = {"data": ["", None, "", 0, False, "", 0], "fn_index": ask["id"], "session_hash": "one"}
    assert len(body["data"]) == len(ask["inputs"])

    def join():
        request = Request(
            f"{url}gradio_api/queue/join?", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return json.load(urlopen(request, timeout=30))["event_id"]

    def completed(stream):
        told = (json.loads(line.removeprefix(b"data: ")) for line in stream if line.startswith(b"data: "))
        return next(
            (each["event_id"] for each in told if each["msg"] in ("process_completed", "close_stream")), "its end"
        )

    event = join()
    with urlopen(f"{url}gradio_api/queue/data?session_hash=one", timeout=30) as stream:
        assert completed(stream) == event
        for _ in range(3):
            event = join()
            assert completed(stream) == event


def test_the_same_server_answers_programs(url):
    with urlopen(f"{url}v1/models", timeout=30) as answer:
        assert "talkative:average" in [model["id"] for model in json.load(answer)["data"]]


def test_on_a_phone_nothing_scrolls_sideways(arrive, clip):
    visitor = arrive(PHONE)
    page = visitor.page
    wide = """() => [...document.querySelectorAll('body *')]
        .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1).length"""
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    visitor.upload(clip)
    page.check("#compare input")
    visitor.ask("which appears first , the red square or the yellow triangle ?", num_answers=2)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate(wide) == 0
    for name in ("#upload button", "#send", "#stop", "#get-json", QUESTION):
        assert page.locator(name).bounding_box()["height"] >= 24, "large enough for a finger"
    visitor.screenshot("phone.png")


def test_everything_is_done_with_the_keyboard_alone(arrive):
    visitor = arrive()
    page = visitor.page

    def tab_to(selector):
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.closest(selector) !== null", selector):
                return
        pytest.fail(f"no tab stop in {selector}")

    tab_to("#upload")
    tab_to("#example-1")
    page.keyboard.press("Enter")
    expect(page.locator("#frames img")).to_have_count(4)
    expect(page.locator("#suggestions button").first).to_be_visible()
    tab_to("#question")
    page.keyboard.type(SQUARE)
    page.keyboard.press("Enter")
    visitor.wait(1)
    heat = visitor.pictures()
    tab_to("#pooler-one")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#counts")).not_to_contain_text("the model's own")
    tab_to("#budget-one")
    tab_to("#compare")
    page.keyboard.press("Space")
    expect(page.locator("#pooler-other")).to_be_visible()
    tab_to("#get-json")
    with page.expect_download():
        page.keyboard.press("Enter")
    tab_to("#picker")
    page.keyboard.press("Space")
    expect(page.locator("#frames img").first).not_to_have_attribute("src", heat[0])


def test_everything_has_a_name(visitor):
    visitor.page.check("#compare input")
    visitor.ask(SQUARE, num_answers=2)
    nameless = visitor.page.evaluate("""() => [...document.querySelectorAll('input, button, textarea, img')]
        .filter(e => e.checkVisibility())
        .filter(e => !(e.labels?.length || e.ariaLabel || e.innerText || e.alt || e.ariaLabelledByElements?.length))
        .map(e => e.outerHTML)""")
    assert nameless == []
    assert visitor.page.get_by_role("log", name="Conversation").count() == 1
    assert visitor.page.get_by_label("Question", exact=True).count() == 1
