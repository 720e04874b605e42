import pytest

from benchmarks.marked import rewrite

START, END = "<!-- made -->\n", "<!-- /made -->\n"


def test_what_stands_between_the_marks_is_exchanged_and_nothing_else(tmp_path, capsys):
    page = tmp_path / "page.md"
    for made in ("old\n", "new – longer\n", ""):
        rewrites = f"by hand\n{START}{made}{END}by hand too\n"
        page.write_text(f"by hand\n{START}some\nlines\n{END}by hand too\n", encoding="utf-8")
        rewrite(page, START, END, made)
        assert page.read_text(encoding="utf-8") == rewrites
    assert capsys.readouterr().out == 3 * f"wrote {page}\n"


@pytest.mark.parametrize("text", ["", START, END, END + START, START + START + END, START + END + "by hand\n" + END])
def test_a_page_without_each_mark_once_is_left_as_it_is(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match=r"got .*page.md without '<!-- made -->\\n' and .* once each in this order"):
        rewrite(page, START, END, "made\n")
    assert page.read_text() == text
