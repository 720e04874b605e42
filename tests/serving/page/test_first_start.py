"""`ppl demo` in an empty folder: it trains the embedded model, and answers rightly on the page."""

import pytest
from playwright.sync_api import expect

from tests.serving.page.browser import Visitor, chromium, demo


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_first_start_trains_and_answers(tmp_path):
    with demo(folder=tmp_path) as url, chromium() as browser:
        visitor = Visitor(browser, url)
        visitor.page.click("#example-3")  # there is a green ring in it
        expect(visitor.page.locator("#frames img")).to_have_count(8)
        visitor.ask("what colour is the ring ?")
        assert visitor.answers() == ["green"]
        visitor.screenshot("first_start.png")
    assert (tmp_path / "runs/demo/weighted/checkpoints/last.ckpt").is_file()
    with demo(folder=tmp_path):
        pass  # at once: it is trained
