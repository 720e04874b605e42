import pytest

from ppl.cli import main
from ppl.commands import chat
from ppl.extras import missing


def test_the_message_names_what_to_install():
    error = missing("tables", "pyarrow", "a table", ", or write JSON")
    assert isinstance(error, ModuleNotFoundError)
    assert (
        str(error) == "got a table without pyarrow, expected the extra tables: pip install 'ppl[tables]', or write JSON"
    )


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_command_line_shows_it_without_a_traceback(wrapped, monkeypatch):
    """As itself, or wrapped by jsonargparse, which makes a ValueError of what a class raises."""

    def run(options):
        error = missing("tables", "pyarrow", "a table")
        if wrapped:
            raise ValueError("a class could not be made") from error
        raise error

    monkeypatch.setattr(chat, "_run", run)
    with pytest.raises(SystemExit, match=r"^ppl chat: got a table without pyarrow, expected the extra tables: pip"):
        main(["chat", "clip.mp4"])
