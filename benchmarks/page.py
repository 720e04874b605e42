"""``python -m benchmarks.page``: the web page with the embedded model, in headless Chromium, into docs/page.png.

The model is trained first if `make demo` or `ppl demo` has not done so (a few minutes); a second picture, of the page
on a phone, goes to runs/screenshots.
"""

from __future__ import annotations

from tests.serving.page.browser import LAPTOP, PHONE, ROOT, Visitor, chromium, demo

DOCS = ROOT / "docs"


def main() -> None:
    with demo() as url, chromium() as browser:
        for device, name, folder in ((LAPTOP, "page.png", DOCS), (PHONE, "page_on_a_phone.png", None)):
            visitor = Visitor(browser, url, device)
            show(visitor)
            visitor.screenshot(name, *([] if folder is None else [folder]))
            visitor.close()


def show(visitor: Visitor) -> None:
    """Open an example, ask what is suggested, and compare two ways to pool."""
    page = visitor.page
    page.click("#example-3")
    page.click("#suggestions button >> nth=0")
    visitor.wait(1)
    page.check("#compare input")
    page.fill("#budget-other input[type=number]", "4")
    page.keyboard.press("Tab")
    page.click("#suggestions button >> nth=1")
    visitor.wait(2, 2)


if __name__ == "__main__":
    main()
