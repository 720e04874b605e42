"""Call an application as a server does, where a client of Starlette's cannot: connections that break or stall."""

import asyncio
import json


class Connection:
    """One request of JSON and what came back.

    Args:
        body: Its body; in pieces, if it is a list of bytes.
        gone: After so many pieces of the answer the client is gone; None: it stays.
        stalls: Whether it reads only what comes before.
    """

    def __init__(self, body, gone=None, *, stalls=False, headers=()):
        pieces = body if isinstance(body, list) else [json.dumps(body).encode()]
        self.pieces = [(piece, number + 1 < len(pieces)) for number, piece in enumerate(pieces)]
        self.gone, self.stalls, self.sent = gone, stalls, []
        self.is_gone = asyncio.Event()
        self.headers = [(b"content-type", b"application/json"), *headers]

    async def receive(self):
        if self.pieces:
            piece, more = self.pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": more}
        await self.is_gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if self.gone is not None and len(self.sent) > self.gone:
            if self.stalls:
                await asyncio.sleep(60)
            self.is_gone.set()
        self.sent.append(message)

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    async def run(self, app, path="/v1/chat/completions"):
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": self.headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await asyncio.wait_for(app(scope, self.receive, self.send), 60)
        return self
