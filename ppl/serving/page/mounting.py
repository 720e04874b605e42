"""Put the page into a server, at its root; what the server offers to programs stays where it is."""

from __future__ import annotations

import os

import gradio as gr
from fastapi import FastAPI
from gradio.themes import Default
from starlette.routing import Mount

from ppl.serving.http.serving import Serving
from ppl.serving.page.callbacks import Callbacks
from ppl.serving.page.examples import write_examples
from ppl.serving.page.guard import Guard
from ppl.serving.page.layout import Layout
from ppl.serving.page.steady_stream import SteadyStream

_FONTS = ("system-ui", "sans-serif")
_MONOSPACED = ("ui-monospace", "monospace")


def mount_page(app: FastAPI) -> None:
    """Add the page to an application of `ppl.serving.http.app.create_app`.

    Nothing that it loads comes from elsewhere, and it reports to nobody. Uploads lie in the server's own store of
    clients' files, and are removed with it.

    Args:
        app: What it is added to; last, as the page answers at every path that is left.
    """
    serving: Serving = app.state.serving
    uploads = serving.store.folder / "page"
    uploads.mkdir()
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)  # Gradio has no other way to be told
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    layout = Layout(
        Callbacks(serving.engine, serving.store, serving.settings), write_examples(serving.store.folder / "examples")
    )
    page = layout.build()
    page.queue(default_concurrency_limit=None, max_size=serving.engine.limits.max_waiting, api_open=False)
    gr.mount_gradio_app(
        app,
        page,
        "/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        show_error=False,
        max_file_size=serving.settings.caps.body_bytes,
        theme=Default(font=_FONTS, font_mono=_MONOSPACED),
        css=layout.style(),
    )
    mount = app.routes[-1]
    assert isinstance(mount, Mount), "what was just mounted"
    stream = SteadyStream(mount.app, serving.ended)
    mount.app = Guard(stream, uploads, serving.settings.caps.body_bytes, serving.store.max_bytes)
