"""``/v1/files``: media that are sent once and asked about many times."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ppl.serving.http.errors import ApiError
from ppl.serving.http.serving import Serving
from ppl.serving.http.store import FullStoreError, Upload

_FIELDS = {"file", "purpose"}


async def create_file(serving: Serving, request: Request) -> Response:
    """Keep an upload.

    Raises:
        ApiError: It is not one file and its purpose, or there is no room for it.
    """
    serving.check_taking()
    async with serving.bodies.limited(request) as limited:
        form = await serving.bodies.soon(limited.form(max_files=1, max_fields=4, max_part_size=1024))
    try:
        file, others = form.get("file"), set(form) - _FIELDS
        if not isinstance(file, UploadFile) or form.get("purpose") != "user_data" or others:
            msg = "got another form than expected: one file named file, and purpose=user_data; correct the form"
            raise ApiError(400, msg, "file")
        loop = asyncio.get_running_loop()
        name = (file.filename or "file")[:200]
        upload = await loop.run_in_executor(serving.intake_threads, serving.store.upload, name, file.file)
    except FullStoreError as error:
        raise ApiError(
            429, "got more files than there is room for; delete some, or try again", retry_after=60
        ) from error
    finally:
        await form.close()
    return JSONResponse(_shown(serving, upload))


async def show_file(serving: Serving, request: Request) -> Response:
    """Tell about an upload.

    Raises:
        ApiError: There is none.
    """
    upload = serving.store.find(request.path_params["file_id"])
    if upload is None:
        raise _no_such()
    return JSONResponse(_shown(serving, upload))


async def delete_file(serving: Serving, request: Request) -> Response:
    """Remove an upload; questions that are being answered keep what they need.

    Raises:
        ApiError: There is none.
    """
    file_id = request.path_params["file_id"]
    if not serving.store.delete(file_id):
        raise _no_such()
    return JSONResponse({"id": file_id, "object": "file", "deleted": True})


def _no_such() -> ApiError:
    return ApiError(404, "got an id of no upload, or of one that was removed; upload it again", "file_id")


def _shown(serving: Serving, upload: Upload) -> dict[str, Any]:
    return {
        "id": upload.id,
        "object": "file",
        "bytes": upload.file.num_bytes,
        "created_at": upload.created,
        "expires_at": upload.created + int(60 * serving.settings.upload_minutes),
        "filename": upload.name,
        "purpose": "user_data",
        "status": "processed",
    }
