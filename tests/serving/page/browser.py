"""A real page in a real browser: `ppl demo` in a process of its own, and headless Chromium."""

import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parents[3]
SCREENSHOTS = ROOT / "runs" / "screenshots"
LAPTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
QUESTION = "#question input"
PATIENCE, MOMENT = 60_000, 5000
"""Milliseconds, until a test gives up and until a visitor tries again."""

expect.set_options(timeout=PATIENCE)


@contextmanager
def demo(*options, folder=ROOT):
    """Run the program; gives the address that it prints."""
    command = [sys.executable, "-m", "ppl", "demo", "--no-browser", "--port=0", *map(str, options)]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = ""
    try:
        for line in server.stdout:
            said += line
            if found := re.search(r"the page is at (\S+)", line):
                urlopen(f"{found[1]}health", timeout=60).close()  # it is there before it would end in order
                yield found[1]
                break
        else:
            raise AssertionError(f"`{' '.join(command)}` ended: {said}")
    finally:
        server.terminate()
        rest = server.communicate(timeout=60)[0]
    assert server.returncode == 0, rest
    assert not re.search("ERROR|Traceback", rest), rest


@contextmanager
def chromium():
    """The browser that is on PATH, or else the one that Playwright has fetched; `.ci/browser` sees to it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


class Visitor:
    """Somebody with a browser of their own, and what it noted.

    Args:
        browser: Of `chromium`.
        url: Of the page.
        device: Options of a context: `LAPTOP` or `PHONE`.
    """

    def __init__(self, browser, url, device=LAPTOP):
        self.url = url
        self.requests, self.complaints = [], []
        self.page = browser.new_context(**device).new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        self.page.goto(url)
        expect(self.page.locator(QUESTION)).to_be_visible()

    def upload(self, path):
        """Choose a file, and wait until its frames are there."""
        with self.page.expect_file_chooser() as chooser:
            self.page.click("#upload button")
        chooser.value.set_files(path)
        expect(self.page.locator("#frames .caption")).to_contain_text(Path(path).name)

    def ask(self, question, num_answers=1):
        """Write a question, press Enter, and wait for its answers."""
        before = self.page.locator(".exchange").count()
        self.page.fill(QUESTION, question)
        self.until(lambda: self.page.press(QUESTION, "Enter"), self.page.locator(".exchange").nth(before).locator("h3"))
        self.wait(before + 1, num_answers)

    def until(self, act, shown):
        """Act, and again where nothing came of it: what is pressed while the last question is answered is ignored.

        So is a second press while the first one's question is answered, and afterwards the box is empty: none is asked
        twice.
        """
        for _ in range(PATIENCE // MOMENT):
            act()
            try:
                return shown.wait_for(timeout=MOMENT)
            except PlaywrightTimeoutError:
                continue
        raise AssertionError(f"{shown} never came")

    def wait(self, num_exchanges, num_answers=1):
        """Wait until a question is answered, in full."""
        expect(self.page.locator(".exchange")).to_have_count(num_exchanges)
        expect(self.page.locator(".exchange").last.locator("article details")).to_have_count(num_answers)

    def answers(self):
        """To the newest question."""
        return self.page.locator(".exchange").last.locator(".answer").all_inner_texts()

    def pictures(self):
        """What the frames look like, file by file."""
        return [image.get_attribute("src") for image in self.page.locator("#frames img").all()]

    def choose(self, name, option):
        """Choose a pooler."""
        self.page.click(f"#{name} input")
        self.page.locator(f"#{name}").get_by_role("option", name=option, exact=True).click()

    def screenshot(self, name, folder=SCREENSHOTS):
        """Keep a picture of all of the page."""
        folder.mkdir(parents=True, exist_ok=True)
        self.page.evaluate("document.activeElement.blur()")
        self.page.screenshot(path=folder / name, full_page=True)
        print(f"screenshot: {folder / name}")

    def close(self):
        """Leave."""
        self.page.context.close()
