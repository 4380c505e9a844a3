"""A small client of `yuegguf serve`: JSON, recordings and audio files, with the key in a header alone."""

from __future__ import annotations

import http.client
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import parse_qs, urlsplit

TIMEOUT_SECONDS = 60.0
"""Longest wait for an answer, and for the next bytes of one."""
MAX_ANSWER_BYTES = 2**31
"""Bytes of the largest answer that is read: hours of audio."""


class ServerError(RuntimeError):
    """An answer that is an error, or none; the text is for the user."""

    def __init__(self, message: str, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        """Status of the answer; 0 = none came."""
        self.code = code
        """The server's name of the error."""


@dataclass(frozen=True)
class Server:
    """Address of a server, and its key."""

    base: str
    """URL without a slash at its end, without the key."""
    key: str = ""

    @classmethod
    def at(cls, link: str, key: str = "") -> Server:
        """The server of the link that it prints, whose `#key=…` replaces `key`. Raises ServerError."""
        try:
            parts = urlsplit(link)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid or parts.username or parts.query:
            raise ServerError("the server's address is not one; enter it as in http://127.0.0.1:8451/")
        known = parse_qs(parts.fragment).get("key", [key])[0]
        return cls(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", known)

    def get(self, path: str) -> Any:
        """The JSON of an answer. Raises ServerError."""
        return _json(self._answer("GET", path))

    def download(self, path: str) -> bytes:
        """The bytes of a file. Raises ServerError."""
        return self._answer("GET", path)

    def post(self, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Any:
        """The JSON of the answer to a JSON body. Raises ServerError."""
        data = b"" if body is None else _json_bytes(body)
        return _json(
            self._answer("POST", path, data, {"content-type": "application/json", **(headers or {})})
        )

    def post_recordings(
        self, path: str, body: object, recordings: Mapping[str, bytes], headers: Mapping[str, str]
    ) -> Any:
        """The JSON of the answer to a body with WAV files by the names of their parts. Raises ServerError."""
        if not recordings:
            return self.post(path, body, headers)
        border = secrets.token_hex(16)
        parts = [_part(border, 'name="request"', _json_bytes(body))]
        for name, wav in recordings.items():
            parts.append(_part(border, f'name="{name}"; filename="{name}.wav"', wav))
        data = b"".join([*parts, f"--{border}--\r\n".encode()])
        kind = {"content-type": f"multipart/form-data; boundary={border}"}
        return _json(self._answer("POST", path, data, {**kind, **headers}))

    def _answer(
        self, method: str, path: str, data: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        request = urllib.request.Request(f"{self.base}/{path}", data, dict(headers or {}), method=method)
        if self.key:
            request.add_unredirected_header("Authorization", f"Bearer {self.key}")
        try:
            with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as answer:
                body: bytes = answer.read(MAX_ANSWER_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error.code, error.read(2**20)) from error
        except ValueError as error:  # of a key or an address that no request can hold
            raise ServerError(
                "the server's address or its key cannot be sent; enter both as `yuegguf serve` prints them"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise ServerError(
                f"{self.base} does not answer ({reason}); start it with: yuegguf serve"
            ) from error
        if len(body) > MAX_ANSWER_BYTES:
            raise ServerError(f"{self.base} sent more than {MAX_ANSWER_BYTES} bytes", 502)
        return body

    def _refused(self, status: int, body: bytes) -> ServerError:
        try:
            error = json.loads(body)["error"]
            texts = [str(error[name]) for name in ("message", "hint") if error.get(name)]
            return ServerError("; ".join(texts), status, str(error.get("code", "")))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return ServerError(f"{self.base} answers {status}, so it is no yuegguf serve", status)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow nothing: the key belongs to one server."""

    def redirect_request(
        self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        """Refuse."""
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
"""Opener without proxies: the server is one's own."""


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ServerError("the answer is no JSON, so this is no yuegguf serve") from error


def _json_bytes(body: object) -> bytes:
    return json.dumps(body, sort_keys=True, ensure_ascii=True).encode()


def _part(border: str, disposition: str, content: bytes) -> bytes:
    head = f"--{border}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
    return head.encode() + content + b"\r\n"
