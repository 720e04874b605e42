"""From the options of ``ppl demo`` to a page in a browser."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from pathlib import Path
from threading import Thread

from ppl.serving.http.app import create_app
from ppl.serving.http.launch import greeting, keeping_of, limits_of, open_engine, settings_of
from ppl.serving.http.server import listen, run_server
from ppl.serving.page.embedded_model import embedded_model
from ppl.serving.page.mounting import mount_page

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def run_demo(options: argparse.Namespace) -> None:
    """Serve the page until told to end, and open it in a browser unless told otherwise.

    Raises:
        ValueError: An option does not do, the port is taken, or the embedded model could not be trained.
        FileNotFoundError: There is no such checkpoint.
    """
    if options.checkpoint == options.embedded:
        options.name = options.name or "embedded"
    settings, keeping, limits = settings_of(options), keeping_of(options), limits_of(options)
    if settings.token is not None:
        msg = "got an API key with a page, which no browser sends; unset it, or use `ppl serve`, which has no page"
        raise ValueError(msg)
    listen(options.host, options.port).close()  # before the model is trained or loaded: that takes its time
    if options.checkpoint == options.embedded:
        embedded_model(Path(options.embedded), _say)
    engine = open_engine(options, settings.caps, keeping, limits)
    try:
        app = create_app(engine, settings)
        mount_page(app)
        with listen(options.host, options.port) as listener:
            port = listener.getsockname()[1]
            host: str = _ANY.get(options.host) or options.host
            url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
            _say(greeting(settings, engine, options.host, port) + f"the page is at {url} (Ctrl-C ends it)")
            if not options.no_browser:
                Thread(target=webbrowser.open, args=(url,), daemon=True).start()  # some wait until they are closed
            run_server(app, listener, options.drain_seconds)
    finally:
        engine.close(0.0)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
