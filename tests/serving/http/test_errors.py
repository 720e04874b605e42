"""What clients are told of errors, and what is kept from them."""

import pytest
import torch

from ppl.modules.generation import Generation
from ppl.serving.http.errors import ApiError, told, without_paths


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_the_shape_is_openai_s(status, kind):
    error = ApiError(status, "got it", "n", "some_code")
    assert error.body == {"error": {"message": "got it", "type": kind, "param": "n", "code": "some_code"}}


def test_headers_say_when_to_try_again_and_how_to_log_in():
    assert ApiError(429, "", retry_after=3).response.headers["retry-after"] == "3"
    assert ApiError(401, "").response.headers["www-authenticate"] == "Bearer"
    assert "retry-after" not in ApiError(400, "").response.headers


def raised(call):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return caught.value


def test_what_our_code_says_of_the_input_is_told():
    error = told(raised(lambda: Generation(max_new_tokens=0)), {})
    assert isinstance(error, ApiError)
    assert (error.status, error.message) == (400, "got max_new_tokens=0, expected at least 1")


def test_what_others_raise_is_not():
    for call in (lambda: int("secret"), lambda: torch.zeros(2).view(3), lambda: {}["secret"]):
        error = raised(call)
        assert told(error, {}) is error


def test_out_of_memory_is_told_as_something_to_change():
    error = told(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), {})
    assert isinstance(error, ApiError)
    assert error.status == 503
    assert "CUDA" not in error.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/var/tmp/ppl-serve-x/abc: damaged", "messages.0.content.0: damaged"),
        ("got '/etc/ppl/model.safetensors', expected", "got '(a path)', expected"),
        ("got (/srv/a/b.ckpt) and /srv/c d", "got ((a path)) and (a path) d"),
        ("12 / 3 s/frame http://host/a/b 1/2/3 and/or", "12 / 3 s/frame http://host/a/b 1/2/3 and/or"),
    ],
)
def test_no_path_is_told(text, expected):
    assert without_paths(text, {"/var/tmp/ppl-serve-x/abc": "messages.0.content.0"}) == expected
