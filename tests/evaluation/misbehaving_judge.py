"""A local server that speaks OpenAI's chat completions, badly where it is told to."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPLY = "{'pred': 'yes', 'score': 4}"


def good(handler, content=REPLY):
    send(handler, 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode())


def send(handler, status, body=b"{}", headers=(), length=None):
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def replying(content):
    return lambda handler: good(handler, content)


def status(code, body=b"{}", **headers):
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return lambda handler: send(handler, code, body, named)


def malformed(handler):
    send(handler, 200, b'{"choices": [{"mess')


def other_json(handler):
    send(handler, 200, b'{"error": null}')


def cut_off(handler):
    send(handler, 200, b'{"choices": [{"message": {"content": "{\'pred\'', length=500)
    handler.close_connection = True


def hang_up(handler):
    handler.close_connection = True


def slow(seconds):
    def behave(handler):
        time.sleep(seconds)
        good(handler)

    return behave


def in_groups_of(number):
    """Nobody is answered, with what was asked in capitals, before so many ask at once."""
    together = threading.Barrier(number)

    def behave(handler):
        together.wait(timeout=30)
        good(handler, handler.asked["messages"][-1]["content"].upper())

    return behave


def dripping(seconds):
    """A byte at a time: no pause is longer than the timeout, the whole is."""

    def behave(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(20):
            try:
                handler.wfile.write(b" ")
                handler.wfile.flush()
            except OSError:
                return
            time.sleep(seconds / 20)

    return behave


class Judge:
    """What it was sent, and how it behaves: what is left of `behaviours`, one a request, and well after those."""

    def __init__(self, behaviours):
        self.behaviours = list(behaviours)
        self.received = []
        self.headers = []
        self.at_once = 0
        self.most_at_once = 0
        self.lock = threading.Lock()
        self.url = ""


@contextmanager
def judge_server(*behaviours, always=good):
    judge = Judge(behaviours)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.asked = body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with judge.lock:
                judge.received.append((self.path, body))
                judge.headers.append(dict(self.headers))
                judge.at_once += 1
                judge.most_at_once = max(judge.most_at_once, judge.at_once)
                behave = judge.behaviours.pop(0) if judge.behaviours else always
            try:
                behave(self)
            except OSError:  # the client has gone
                pass
            finally:
                with judge.lock:
                    judge.at_once -= 1

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    judge.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
