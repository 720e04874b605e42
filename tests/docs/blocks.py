"""What the documentation tells its readers to type: fenced blocks, and commands in the text."""

import re
import textwrap
from typing import NamedTuple

from tests.modules.tiny import ROOT

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
PAGES = ["README.md", "recipes/README.md", *PAGES]

OPENING = re.compile(r'^(?P<indent> *)```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?$')
FENCE = re.compile(r"^ *```")
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


class Block(NamedTuple):
    """A fenced block; one with a ``title`` is the file of that name."""

    page: str
    line: int
    language: str
    title: str | None
    text: str

    @property
    def place(self):
        return f"{self.page}:{self.line}"


def read(page):
    """The fenced blocks of a page, and its text without them."""
    blocks, prose, opened, held = [], [], None, []
    for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), 1):
        if opened is None and FENCE.match(line):
            found = OPENING.match(line)
            assert found, f'{page}:{number}: {line!r} opens a block; expected ```language, or with title="file"'
            opened, held = (number, found), []
        elif opened is not None and line == f"{opened[1]['indent']}```":
            number, found = opened
            text = textwrap.dedent("\n".join(held)) + "\n"
            blocks.append(Block(page, number, found["language"], found["title"], text))
            opened = None
        elif opened is not None:
            held.append(line)
        else:
            prose.append(line)
    assert opened is None, f"{page}:{opened and opened[0]}: a block that is never closed"
    return blocks, "\n".join(prose)


def inline(page):
    """What stands between single backticks in a page's text."""
    return INLINE.findall(read(page)[1])
