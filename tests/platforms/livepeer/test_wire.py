"""The bytes that stand for the Go client's: checked against what its libraries are known to write."""

from tests.platforms.livepeer import wire


def test_a_form_is_written_as_mime_multipart_writes_it() -> None:
    body = wire.multipart_body(b"\x89PNG", 'a "b".png', [("prompt", ""), ("strength", 0.8), ("safety_check", True)])
    mark = wire.BOUNDARY
    assert body.content_type == f"multipart/form-data; boundary={mark}"
    assert (
        body.data
        == (
            f"--{mark}\r\n"
            'Content-Disposition: form-data; name="image"; filename="a \\"b\\".png"\r\n'
            "Content-Type: application/octet-stream\r\n"
            "\r\n"
        ).encode()
        + b"\x89PNG"
        + (
            f"\r\n--{mark}\r\n"
            'Content-Disposition: form-data; name="prompt"\r\n'
            "\r\n"
            f"\r\n--{mark}\r\n"
            'Content-Disposition: form-data; name="strength"\r\n'
            "\r\n"
            "0.800000"
            f"\r\n--{mark}\r\n"
            'Content-Disposition: form-data; name="safety_check"\r\n'
            "\r\n"
            "true"
            f"\r\n--{mark}--\r\n"
        ).encode()
    )


def test_json_is_written_as_encoding_json_writes_it() -> None:
    body = wire.json_body({"guidance_scale": 7.5, "loras": "", "prompt": "a <b> & c é", "safety_check": False})
    assert body.content_type == "application/json"
    assert body.data == (
        b'{"guidance_scale":7.5,"loras":"","prompt":"a \\u003cb\\u003e \\u0026 c \xc3\xa9","safety_check":false}'
    )
