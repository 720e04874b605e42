"""Fetching from elsewhere: only from public addresses, from the very one that was looked at."""

import asyncio
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ppl.serving.http.errors import ApiError
from ppl.serving.http.remote import Fetcher, is_public, resolve


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946"])
def test_addresses_of_the_internet_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1", "::7f00:1"),
        *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001:0::1"),
    ],
)
def test_others_are_not(address):
    assert not is_public(address)


class Site(BaseHTTPRequestHandler):
    """Says what it was asked, redirects, or goes on for long."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Host"], dict(self.headers)))
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/missing" else 200)
        self.end_headers()
        if self.path == "/slow":
            self.server.end.wait(10)
        self.wfile.write(b"x" * (2000 if self.path == "/long" else 10))

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.asked, server.end = [], threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.end.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def fetch(site):
    """Fetch a path of a host that the site stands for."""
    site.asked.clear()

    async def known(host, port):
        assert port == site.server_port
        return {"public.test": ["127.0.0.1"], "mixed.test": ["127.0.0.1", "127.0.0.2"]}.get(host, [host])

    def fetch(path, host="public.test", **options):
        fetcher = Fetcher(1000, known, **{"allowed": lambda address: address == "127.0.0.1", **options})
        with tempfile.TemporaryFile() as file:
            asyncio.run(fetcher.fetch(f"http://{host}:{site.server_port}{path}", file, "it"))
            file.seek(0)
            return file.read()

    return fetch


def refusal(call):
    with pytest.raises(ApiError) as caught:
        call()
    return caught.value.message


def test_a_file_comes_from_the_address_that_was_checked_under_its_host_s_name(fetch, site):
    assert fetch("/a?b=1") == b"x" * 10
    [(path, host, headers)] = site.asked
    assert (path, host) == ("/a?b=1", f"public.test:{site.server_port}")
    assert headers["Accept-Encoding"] == "identity"


def test_a_host_one_of_whose_addresses_is_private_is_refused(fetch, site):
    for host in ("mixed.test", "127.0.0.2"):
        assert "host is not a public one" in refusal(lambda host=host: fetch("/a", host))
    assert site.asked == []


def test_by_default_this_machine_is_refused(fetch, site):
    assert "host is not a public one" in refusal(lambda: fetch("/a", allowed=is_public))
    for host in ("localhost", "127.1", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]"):
        url = f"http://{host}:{site.server_port}/a"
        with tempfile.TemporaryFile() as file:
            message = refusal(lambda url=url, file=file: asyncio.run(Fetcher(1000).fetch(url, file, "it")))
        assert "host is not a public one" in message or "could not be fetched" in message
    assert site.asked == []


def test_a_redirect_is_checked_as_the_first_url_was(fetch, site):
    port = site.server_port
    assert fetch(f"/to/http://public.test:{port}/b") == b"x" * 10
    assert [path for path, *_ in site.asked][1] == "/b"
    assert fetch("/to//c") == b"x" * 10  # of the same host
    assert "not a public one" in refusal(lambda: fetch(f"/to/http://mixed.test:{port}/b"))
    assert "neither http nor https" in refusal(lambda: fetch("/to/file:///etc/passwd"))
    assert "neither http nor https" in refusal(lambda: fetch("/to/ftp://public.test/x"))


def test_redirects_end(fetch, site):
    path = "/to/" * 3 + "/a"
    assert fetch(path) == b"x" * 10
    assert "over 3 redirects" in refusal(lambda: fetch("/to/" + path))


def test_size_time_and_status_are_looked_at(fetch):
    assert "over 1000 bytes" in refusal(lambda: fetch("/long"))
    assert "no whole file within 0.3 s" in refusal(lambda: fetch("/slow", seconds=0.3))
    assert "got status 404" in refusal(lambda: fetch("/missing"))


def test_a_name_is_looked_up_only_once(fetch, site):
    """A second answer of the name server could be another."""
    calls = []

    async def changing(host, port):
        calls.append(host)
        return ["127.0.0.1"] if len(calls) == 1 else ["127.0.0.2"]

    fetcher = Fetcher(1000, changing, lambda address: address == "127.0.0.1")
    with tempfile.TemporaryFile() as file:
        asyncio.run(fetcher.fetch(f"http://changing.test:{site.server_port}/a", file, "it"))
    assert (calls, len(site.asked)) == (["changing.test"], 1)


def test_a_proxy_of_the_environment_is_not_asked(fetch, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetch("/a") == b"x" * 10


def test_what_cannot_be_fetched_is_told(fetch):
    async def unknown(host, port):
        raise OSError("no such host")

    for url in ("http://nowhere.test/a", "http://", "http://[::1", "http://a:99999/"):
        with tempfile.TemporaryFile() as file:
            message = refusal(lambda url=url, file=file: asyncio.run(Fetcher(9, unknown).fetch(url, file, "it")))
        assert message.startswith("got a URL")


def test_the_system_resolves():
    assert "127.0.0.1" in asyncio.run(resolve("127.0.0.1", 80))
