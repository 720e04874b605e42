"""The application: routes, and what they share. More can be mounted in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ppl.serving.engine import Engine
from ppl.serving.http.access import Access
from ppl.serving.http.chat import chat_completions
from ppl.serving.http.errors import ApiError, answer_with
from ppl.serving.http.files import create_file, delete_file, show_file
from ppl.serving.http.serving import Serving
from ppl.serving.http.settings import Settings

Endpoint = Callable[[Serving, Request], Awaitable[Response]]
_SWEEP_SECONDS = 30.0
_ROUTES: tuple[tuple[str, str, Endpoint], ...]


def create_app(engine: Engine, settings: Settings) -> FastAPI:
    """Make the application; `app.state.serving` holds its `Serving`, and closes it when the application ends.

    There are no generated pages about the routes: they load scripts from elsewhere.

    Args:
        engine: Answers; whoever made it closes it.
        settings: What is offered.
    """
    serving = Serving(engine, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        sweeping = asyncio.create_task(_sweep(serving))
        try:
            yield
        finally:
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping
            serving.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.serving = serving
    app.add_middleware(Access, token=settings.token, metrics=serving.metrics)
    app.add_exception_handler(ApiError, answer_with)
    app.add_exception_handler(HTTPException, answer_with)
    for path, method, endpoint in _ROUTES:
        app.add_api_route(path, _bound(serving, endpoint), methods=[method], response_model=None)
    return app


def _bound(serving: Serving, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def call(request: Request) -> Response:
        return await endpoint(serving, request)

    return call


async def _sweep(serving: Serving) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        serving.store.sweep()


async def _models(serving: Serving, request: Request) -> Response:
    del request
    return JSONResponse({"object": "list", "data": [_model(serving, name) for name in serving.models]})


async def _one_model(serving: Serving, request: Request) -> Response:
    name = request.path_params["model"]
    if name not in serving.models:
        raise ApiError(404, f"got model {name[:80]!r}, expected one of {', '.join(serving.models)}", "model")
    return JSONResponse(_model(serving, name))


def _model(serving: Serving, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": serving.created,
        "owned_by": "ppl",
        "pooler": serving.models[name],
        "poolers": list(serving.engine.poolers),
    }


async def _health(serving: Serving, request: Request) -> Response:
    del request
    told, status = ("ending", 503) if serving.is_ending else ("ok", 200)
    return JSONResponse({"status": told}, status)


async def _metrics(serving: Serving, request: Request) -> Response:
    del request
    return Response(serving.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


_ROUTES = (
    ("/v1/chat/completions", "POST", chat_completions),
    ("/v1/models", "GET", _models),
    ("/v1/models/{model:path}", "GET", _one_model),
    ("/v1/files", "POST", create_file),
    ("/v1/files/{file_id}", "GET", show_file),
    ("/v1/files/{file_id}", "DELETE", delete_file),
    ("/health", "GET", _health),
    ("/metrics", "GET", _metrics),
)
