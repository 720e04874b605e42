"""From the options of ``ppl serve`` to a server that runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ppl.datamodules.decoders.pyav import PyAVDecoder
from ppl.modules.poolers.base import Pooler
from ppl.recipe_folder import recipe_folder
from ppl.serving.encoded_media import Keeping
from ppl.serving.engine import Engine
from ppl.serving.fitting_poolers import poolers_that_fit
from ppl.serving.http.app import create_app
from ppl.serving.http.guarded_readers import GuardedReaders
from ppl.serving.http.server import listen, run_server
from ppl.serving.http.settings import Caps, Settings
from ppl.serving.launch import Opened, open_chosen
from ppl.serving.line import Limits
from ppl.serving.pooler_files import pooler_file
from ppl.serving.variants import read_pooler

_DEFAULT_KEY = "PPL_API_KEY"


def run_serve(options: argparse.Namespace) -> None:
    """Serve until told to end.

    Raises:
        ValueError: An option does not do, or the port is taken.
        FileNotFoundError: There is no such checkpoint.
    """
    settings, keeping, limits = settings_of(options), keeping_of(options), limits_of(options)
    listen(options.host, options.port).close()  # before the model is loaded: that takes its time
    engine = open_engine(options, settings.caps, keeping, limits)
    try:
        app = create_app(engine, settings)
        with listen(options.host, options.port) as listener:
            sys.stdout.write(greeting(settings, engine, options.host, listener.getsockname()[1]))
            sys.stdout.flush()
            run_server(app, listener, options.drain_seconds)
    finally:
        engine.close(0.0)
    sys.stdout.write("all answers are out; good bye\n")


def settings_of(options: argparse.Namespace) -> Settings:
    """What is offered.

    Raises:
        ValueError: An option does not do.
    """
    caps = Caps(
        body_mib=options.max_body_mib,
        media=options.max_media,
        megapixels=options.max_megapixels,
        video_seconds=options.max_video_seconds,
        frames=options.max_frames,
        tokens=options.max_tokens,
        seconds=options.max_seconds,
    )
    return Settings(
        name=options.name or Path(options.checkpoint).stem,
        media_root=options.media_root,
        allow_remote=options.allow_remote,
        token=_token(options.api_key_env),
        caps=caps,
        uploads_gib=options.uploads_gib,
        upload_minutes=options.upload_minutes,
    )


def keeping_of(options: argparse.Namespace) -> Keeping:
    """How long encoded media are kept."""
    return Keeping(options.keep_gib, 60 * options.keep_minutes)


def limits_of(options: argparse.Namespace) -> Limits:
    """How much is taken on."""
    return Limits(max_waiting=options.max_waiting, max_rows=options.max_batch)


def open_engine(options: argparse.Namespace, caps: Caps, keeping: Keeping, limits: Limits) -> Engine:
    """Load the model, and start what answers.

    Raises:
        ValueError: A pooler is none, or does not fit the model.
        FileNotFoundError: There is no such checkpoint.
    """
    opened = open_chosen(options)
    decoder = PyAVDecoder(max_pixels=int(caps.megapixels * 1e6))
    opened.processor.decoder = GuardedReaders(decoder, caps.seconds, limits.num_readers + 1)  # one to look at headers
    return Engine(opened.model, opened.processor, poolers_of(options.pooler, opened), keeping, limits)


def poolers_of(named: Sequence[str], opened: Opened) -> Mapping[str, Pooler]:
    """Read what ``--pooler`` names, or else all of ppl's poolers that fit the model.

    Raises:
        ValueError: One is not of the form ``NAME=FILE``, or describes no pooler.
    """
    if not named:
        return poolers_that_fit(opened.model, opened.processor, recipe_folder() / "parts" / "poolers")
    found = {}
    for words in named:
        name, equals, path = words.partition("=")
        if not equals or not name.strip() or ":" in name:
            msg = f"got --pooler={words}, expected NAME=FILE like --pooler=average=recipes/parts/poolers/average.yaml"
            raise ValueError(msg)
        found[name] = read_pooler(pooler_file(path))
    return found


def greeting(settings: Settings, engine: Engine, host: str, port: int) -> str:
    """Where the server is, and what it takes."""
    caps, limits = settings.caps, engine.limits
    where = f"[{host}]" if ":" in host else host
    places = ["data: URLs", "uploads to /v1/files"]
    places += [] if settings.media_root is None else [f"file:// below {settings.media_root.resolve()}"]
    places += ["http(s):// URLs of public hosts"] if settings.allow_remote else []
    lines = [
        f"serving {settings.name} at http://{where}:{port}/v1 (health at /health, Prometheus at /metrics)",
        f"poolers: {', '.join(engine.poolers) or 'the model’s own'}; ask for model={settings.name}:POOLER, or pooler=",
        f"media: {', '.join(places)}; {caps.media} at most, {caps.frames} frames, {caps.video_seconds:g} s of video, "
        f"{caps.megapixels:g} megapixels, {caps.body_mib:g} MiB a request",
        f"answers: {caps.tokens} tokens and {caps.seconds:g} s at most, {limits.max_rows} at once, "
        f"{limits.max_waiting} in line; "
        + ("for clients with the key" if settings.token else "for everybody who can connect"),
    ]
    return "\n".join(lines) + "\n"


def _token(variable: str | None) -> str | None:
    token = os.environ.get(variable or _DEFAULT_KEY)
    if variable is not None and not token:
        msg = f"got --api-key-env={variable}, but no such variable is set; export it, or leave the option out"
        raise ValueError(msg)
    return token or None
