"""Where media may be, and hostile ones."""

import os
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ppl.datamodules.synthetic.writer import write_video
from ppl.modules.generation import Generation
from ppl.serving.http.media import MediaIntake
from ppl.serving.http.remote import Fetcher
from ppl.serving.http.settings import Caps
from ppl.serving.session import ChatSession
from tests.serving.http.conftest import QUESTION, about, data_url

PART = "messages.0.content.0"


def picture(kind="PNG", size=(40, 30)):
    file = BytesIO()
    Image.new("RGB", size, "red").save(file, kind)
    return file.getvalue()


def content(got):
    return got["choices"][0]["message"]["content"]


def test_an_image_is_taken_as_the_session_takes_it(ask, model, processor, tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    session = ChatSession(model, processor, tmp_path / "a.png")
    expected = "".join(session.ask(QUESTION, Generation(max_new_tokens=8)))
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        got = ask(about(data_url(picture(kind), f"image/{kind.lower()}"), kind="image"))
        assert got["usage"]["prompt_tokens_details"]["visual_tokens"] == session.num_visual_tokens
    assert content(ask(about(data_url(picture(), ""), kind="image"))) == expected


def test_the_same_video_is_encoded_once_however_it_is_sent(serve, clip, url):
    client = serve(media_root=clip.parent)
    uploaded = client.post("/v1/files", files={"file": clip.read_bytes()}, data={"purpose": "user_data"}).json()
    answers = set()
    for each in (url, uploaded["id"], f"file://{clip}", f"file://localhost{clip}", url):
        got = client.post("/v1/chat/completions", json=about(each))
        answers.add(content(got.json()))
    media = client.app.state.serving.engine.media
    assert (len(answers), media.num_encoded, media.num_found) == (1, 1, 4)


def test_a_large_video_sent_again_is_known_too(serve, clip):
    """Of files over 16 MiB not all is read to know them."""
    client = serve()
    large = clip.read_bytes() + struct.pack(">I4s", 17 * 2**20, b"free") + bytes(17 * 2**20 - 8)
    for _ in range(2):
        assert client.post("/v1/chat/completions", json=about(data_url(large))).status_code == 200
    assert client.app.state.serving.engine.media.num_encoded == 1


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width, height):
    """A PNG of some bytes that says it has so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://%s\n#EXT-X-ENDLIST\n"
LIST = b"ffconcat version 1.0\nfile %s\n"
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize(
    "made",
    [
        lambda clip: b"",
        lambda clip: b"0" * 10_000,
        lambda clip: b"this is a text that somebody named clip.mp4\n" * 50,
        lambda clip: clip.read_bytes()[:600],
        lambda clip: clip.read_bytes()[: clip.stat().st_size // 2],
        lambda clip: picture(),
        lambda clip: PLAYLIST % os.fsencode(clip),
        lambda clip: LIST % os.fsencode(clip),
        lambda clip: bomb(100, 100),
    ],
    ids=["nothing", "zeros", "text", "head", "half", "image", "playlist", "concat", "png"],
)
def test_what_is_no_video_is_refused(ask, clip, made):
    error = ask(about(data_url(made(clip))), 400)["error"]
    assert error["param"] == PART
    assert error["message"].startswith(f"got {PART}, which is no whole video")
    assert str(clip.parent) not in str(error)


@pytest.mark.parametrize(
    "made",
    [
        lambda clip: b"",
        lambda clip: b"GIF89a",
        lambda clip: clip.read_bytes(),
        lambda clip: POSTSCRIPT,
        lambda clip: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
    ids=["nothing", "head", "video", "postscript", "svg"],
)
def test_what_is_no_image_is_refused(ask, clip, made):
    error = ask(about(data_url(made(clip), "image/png"), kind="image"), 400)["error"]
    assert error["param"] == PART
    assert error["message"].startswith(f"got {PART}, which is no image of the formats JPEG")


def test_an_image_cut_short_is_told_without_its_path(ask):
    noise = Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8))
    file = BytesIO()
    noise.save(file, "PNG")
    error = ask(about(data_url(file.getvalue()[:-3000], "image/png"), kind="image"), 400)["error"]
    assert error["message"].startswith(f"{PART}: image is damaged or cut short")
    assert "/" not in error["message"]


@pytest.mark.parametrize(("width", "height"), [(8000, 5000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_by_its_header(ask, width, height):
    message = ask(about(data_url(bomb(width, height), "image/png"), kind="image"), 400)["error"]["message"]
    assert "pixels" in message or "no image" in message


def test_a_video_is_measured(serve, tmp_path):
    write_video(tmp_path / "a.mp4", np.zeros((12, 3, 64, 48), dtype=np.uint8), magnify=1)
    url = data_url((tmp_path / "a.mp4").read_bytes())
    for caps, said in [
        (Caps(megapixels=0.003), "got 48 x 64 pixels, expected at most 0.003 million"),
        (Caps(video_seconds=0.5), "s of video, expected at most 0.5 s"),
    ]:
        error = serve(caps=caps).post("/v1/chat/completions", json=about(url)).json()["error"]
        assert said in error["message"]
        assert error["param"] == PART


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("clip.mp4", "got a URL of 'clip.mp4', expected data: or the id of an upload"),
        ("http://example.com/a.mp4", "got a URL of 'http', expected data: or the id of an upload"),
        ("ftp://example.com/a.mp4", "got a URL of 'ftp'"),
        ("concat:/etc/passwd", "got a URL of 'concat'"),
        ("", "got a URL of ''"),
        ("data:video/mp4,abc", "without base64"),
        ("data:video/mp4;base64,a$c=", "that is not base64"),
        ("data:image/png;base64,AAAA", "got image/png in a part of type video_url"),
        ("file:///etc/passwd", "not in the folder that this server offers"),
    ],
)
def test_media_from_anywhere_else_are_refused(ask, url, said):
    assert said in ask(about(url), 400)["error"]["message"]


def test_an_upload_that_is_not_there_is_not_found(ask):
    assert ask(about("file-0123"), 404)["error"]["message"].startswith("got an id of no upload")


@pytest.fixture
def root(tmp_path, clip):
    """A folder to offer, and beside it one that is not."""
    for name in ("offered", "offered-not"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a b.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "offered/out.mp4").symlink_to(tmp_path / "offered-not/a b.mp4")
    (tmp_path / "offered/in.mp4").symlink_to(tmp_path / "offered/a b.mp4")
    os.mkfifo(tmp_path / "offered/pipe")
    return tmp_path / "offered"


def test_files_below_the_root_are_read(serve, root):
    client = serve(media_root=root)
    for name in ("a%20b.mp4", "in.mp4", "./x/../a%20b.mp4"):
        (root / "x").mkdir(exist_ok=True)
        assert client.post("/v1/chat/completions", json=about(f"file://{root}/{name}")).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "../offered-not/a%20b.mp4",
        "%2e%2e/offered-not/a%20b.mp4",
        "..%2foffered-not%2fa%20b.mp4",
        "../../../../../../etc/passwd",
        "out.mp4",
        "missing.mp4",
        "pipe",
        ".",
        "a%20b.mp4?x",
        "a%20b.mp4%00",
        "%ff",
        "x" * 300,
    ],
)
def test_no_other_file_is_read_nor_told_of(serve, root, name):
    answered = serve(media_root=root).post("/v1/chat/completions", json=about(f"file://{root}/{name}"))
    message = answered.json()["error"]["message"]
    assert (answered.status_code, message) == (
        400,
        "got a file that is not in the folder that this server offers; upload it instead",
    )


def test_files_of_other_hosts_are_not_read(serve, root):
    for start in ("file://elsewhere", "file:", "FILE://"):
        answered = serve(media_root=root).post("/v1/chat/completions", json=about(f"{start}{root.parent}/a%20b.mp4"))
        assert answered.status_code == 400


def test_a_url_is_fetched_where_that_is_allowed(serve, url, clip, monkeypatch):
    async def fetch(self, asked, into, name):
        assert (asked, name) == ("https://example.com/a.mp4", PART)
        into.write(clip.read_bytes())

    monkeypatch.setattr(Fetcher, "fetch", fetch)
    client = serve(allow_remote=True)
    got = client.post("/v1/chat/completions", json=about("https://example.com/a.mp4"))
    assert content(got.json()) == content(client.post("/v1/chat/completions", json=about(url)).json())


def test_no_room_for_media_is_told(serve, url):
    answered = serve(uploads_gib=1e-6).post("/v1/chat/completions", json=about(url))
    assert (answered.status_code, answered.headers["retry-after"]) == (429, "5")


def test_the_fetcher_keeps_the_limit_of_bodies(serve):
    intake = serve(caps=Caps(body_mib=1.0)).app.state.serving.intake
    assert isinstance(intake, MediaIntake)
    assert intake.fetcher.max_bytes == 2**20
