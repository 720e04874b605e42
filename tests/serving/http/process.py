"""A server process of ``ppl serve``."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading

from openai import OpenAI

from tests.modules.tiny import ROOT


class Server:
    """Starts at once; `wait` gives it a port.

    Args:
        checkpoint: What it answers with.
        temporary: Where it puts temporary files.
        options: Further words of the command line.
        environment: Further variables.
    """

    def __init__(self, checkpoint, temporary, *options, **environment):
        command = [sys.executable, "-m", "ppl", "serve", "--checkpoint", str(checkpoint), "--name=tiny"]
        self.process = subprocess.Popen(
            [*command, "--device=cpu", "--port=0", "--num-frames=4", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(temporary), **environment},
        )
        self.out, self.err, self._lines = [], [], queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.out)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.err)),
        ]
        for reader in self._readers:
            reader.start()
        self.url = ""

    def _read(self, pipe, lines):
        for line in pipe:
            lines.append(line)
            self._lines.put(line)
        self._lines.put("")

    def wait(self):
        """Wait until it listens; returns itself."""
        while line := self._lines.get(timeout=120):
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                self.url = found[0]
                return self
        raise AssertionError(f"it did not start: {self.out} {self.err}")

    def client(self, **options):
        """OpenAI's client, which tries only once."""
        return OpenAI(base_url=f"{self.url}/v1", **{"api_key": "none", "max_retries": 0, "timeout": 120.0, **options})

    def end(self, how=signal.SIGKILL):
        """Send it a signal and give its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(60)
        for reader in self._readers:
            reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return code
