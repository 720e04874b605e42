"""The HTTP server of ``ppl serve``, for clients of OpenAI's chat completions; needs the extra ``serve``."""

from importlib.util import find_spec

from ppl.extras import missing

for _name in ("fastapi", "httpx2", "prometheus_client", "python_multipart", "uvicorn"):
    if find_spec(_name) is None:
        raise missing("serve", _name, "a server")
