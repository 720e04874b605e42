"""Uploads, as OpenAI's files."""

import time

import pytest

from ppl.serving.http.settings import Caps
from tests.serving.http.conftest import about

PURPOSE = {"purpose": "user_data"}


def upload(client, content, status=200, data=PURPOSE, **files):
    answered = client.post("/v1/files", files=files or {"file": ("a clip.mp4", content)}, data=data)
    assert answered.status_code == status, answered.text
    return answered.json()


def test_an_upload_is_described_asked_about_and_deleted(client, clip, ask):
    content = clip.read_bytes()
    file = upload(client, content)
    assert file["id"].startswith("file-")
    assert (file["bytes"], file["filename"], file["purpose"]) == (len(content), "a clip.mp4", "user_data")
    assert abs(file["created_at"] - time.time()) < 60
    assert file["expires_at"] - file["created_at"] == 3600
    where = f"/v1/files/{file['id']}"
    assert client.get(where).json() == file
    assert ask(about(file["id"]))["usage"]["prompt_tokens_details"]["visual_tokens"] > 0
    assert client.get(where).json() == file
    assert client.delete(where).json() == {"id": file["id"], "object": "file", "deleted": True}
    for gone in (client.get(where), client.delete(where)):
        assert (gone.status_code, gone.json()["error"]["param"]) == (404, "file_id")
    assert list(client.app.state.serving.store.folder.iterdir()) == []


def test_ids_are_not_listed_nor_contents_given(client):
    """Who knows an id may use it: there are no users to tell apart."""
    file = upload(client, b"abc")
    assert client.get("/v1/files").status_code == 405
    assert client.get(f"/v1/files/{file['id']}/content").status_code == 404


@pytest.mark.parametrize(
    "sent",
    [
        {"data": {}},
        {"data": {"purpose": "batch"}},
        {"data": {**PURPOSE, "more": "x"}},
        {"other": b"abc"},
    ],
)
def test_another_form_is_refused(client, sent):
    assert "got another form than expected" in upload(client, b"abc", 400, **sent)["error"]["message"]


def test_what_is_no_form_is_refused(client):
    for headers in ({}, {"content-type": "multipart/form-data"}, {"content-type": "multipart/form-data; boundary=x"}):
        answered = client.post("/v1/files", content=b"nonsense", headers=headers)
        assert answered.status_code == 400
        assert answered.json()["error"]["type"] == "invalid_request_error"


def test_a_large_upload_is_refused_and_leaves_nothing(serve):
    client = serve(caps=Caps(body_mib=0.01))
    assert "got a body of over 10485 bytes" in upload(client, b"x" * 20_000, 413)["error"]["message"]
    assert list(client.app.state.serving.store.folder.iterdir()) == []
    assert client.app.state.serving.bodies.num_bytes == 0


def test_no_room_is_told(serve):
    client = serve(uploads_gib=2e-6)
    assert upload(client, b"x" * 3000, 429)["error"]["type"] == "rate_limit_error"


def test_a_name_does_not_reach_the_disk(client):
    file = upload(client, b"", file=("../../etc/passwd", b"abc"))
    folder = client.app.state.serving.store.folder
    assert [len(path.name) for path in folder.iterdir()] == [64]
    assert client.get(f"/v1/files/{file['id']}").json()["filename"] == "../../etc/passwd"
