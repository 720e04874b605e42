"""The web page of ``ppl demo``, mounted in the server of ``ppl serve``; needs the extra ``demo``."""

from importlib.util import find_spec

from ppl.extras import missing

if find_spec("gradio") is None:
    raise missing("demo", "gradio", "a web page")
