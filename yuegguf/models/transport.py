"""HTTP requests to the hub with bounded retries, pauses and response sizes; failures become YueErrors.

huggingface_hub provides the session (HF_TOKEN, HF_ENDPOINT, proxies) and the addresses. Its own download is
not used: it recurses for every attempt and trusts the lengths that a server announces.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from yuegguf import __version__
from yuegguf.errors import DownloadError, ModelNotFound, RequestError, YueError
from yuegguf.files.atomic import storage_errors

T = TypeVar("T")
RERUN_HINT = "run the same command again, it goes on where this one stopped"
PROXY_HINT = "check HF_ENDPOINT, and the proxy if there is one"
MAX_ANSWER_BYTES = 32 << 20
"""Most bytes of a repository's listing; the largest on the hub has a few MiB."""
MAX_PAGES = 100
"""Most pages of a repository's commits that are read."""
TRANSIENT_STATUSES = (408, 429, 500, 502, 503, 504)
"""HTTP statuses that are worth another attempt."""
SPENT_RATE_LIMIT = re.compile(r"\br=0\s*;\s*t=([0-9]{1,18})\b")
"""The hub's RateLimit header without requests left; group 1 is the seconds until there are some again."""


@dataclass(frozen=True)
class RetryLimits:
    """Limits of retries and of the pauses between them."""

    fruitless_attempts: int = 5
    """Attempts in a row without a new byte of a file."""
    questions: int = 3
    """Attempts at a query about a repository."""
    attempts: int = 1000
    """Attempts at one file in total."""
    first: float = 1.0
    """Seconds of the first pause, doubled after each attempt without a new byte."""
    most: float = 30.0
    """Seconds of the longest pause by doubling."""
    asked: float = 300.0
    """Seconds of the longest pause that is accepted from the hub."""
    sleep: Callable[[float], None] = time.sleep

    def pause(self, fruitless: int) -> float:
        """Seconds before the next attempt after so many fruitless ones."""
        return float(min(self.most, self.first * 2 ** min(max(0, fruitless - 1), 16)))


RETRY_LIMITS = RetryLimits()


class _TransientError(Exception):
    """A failed attempt that is worth another; `error` is raised when it was the last."""

    def __init__(self, error: YueError, asked: float = 0.0) -> None:
        super().__init__(str(error))
        self.error, self.asked = error, asked


def query(path: str, subject: str) -> bytes:
    """The hub's answer about a repository, `subject`. Raises ModelNotFound, DownloadError."""
    url = _hub().constants.ENDPOINT + path
    return _with_retries(partial(_query_once, url, subject), _zero, questions=True)[0]


def query_pages(path: str, subject: str) -> Iterator[bytes]:
    """Pages of the hub's answer about a repository, queried one by one. Raises as `query` does."""
    start = _hub().constants.ENDPOINT
    url = start + path
    for _ in range(MAX_PAGES):
        body, url = _with_retries(partial(_query_once, url, subject), _zero, questions=True)
        yield body
        if not url:
            return
        if not url.startswith(f"{start}/"):
            raise DownloadError(f"the answer about {subject} goes on at another host", PROXY_HINT)
    raise DownloadError(f"the answer about {subject} has more than {MAX_PAGES} pages", PROXY_HINT)


def download(url: str, part: Path, size: int, subject: str, moved: Callable[[int], None]) -> None:
    """Append the missing bytes of a file of `size` bytes to `part`; `moved` is called with its length.

    Bytes beyond the size are never read, and existing ones never downloaded again. Raises ModelNotFound,
    DownloadError, StorageError.
    """
    with storage_errors(part):
        part.touch()
        _with_retries(partial(_download_once, url, part, size, subject, moved), lambda: part.stat().st_size)


def file_url(repo: str, revision: str, name: str) -> str:
    """URL of a repository's file at a commit."""
    return str(_hub().hf_hub_url(repo, name, revision=revision))


def quoted(text: str) -> str:
    """Text as one path segment of a URL."""
    return quote(text, safe="")


def _zero() -> int:
    return 0


def _with_retries(once: Callable[[], T], reached: Callable[[], int], questions: bool = False) -> T:
    """Repeat an attempt until it succeeds or a limit is reached; `reached` returns the bytes so far."""
    limits = RETRY_LIMITS
    most = limits.questions if questions else limits.fruitless_attempts
    best, fruitless = reached(), 0
    for left in reversed(range(limits.attempts)):
        try:
            return once()
        except _TransientError as failure:
            now = reached()
            fruitless = 0 if now > best else fruitless + 1
            best = max(best, now)
            pause = max(limits.pause(fruitless), failure.asked)
            if fruitless >= most or pause > max(limits.asked, limits.most) or not left:
                raise failure.error from failure
        limits.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _download_once(url: str, part: Path, size: int, subject: str, moved: Callable[[int], None]) -> None:
    """Make one attempt at the rest of a file; skips existing bytes if the server ignores ranges."""
    done = part.stat().st_size
    if done == size:
        return
    wanted = {"Range": f"bytes={done}-"} if done else {}
    with _response(url, subject, wanted) as response, part.open("ab") as file:
        again = done if response.status_code == 200 else 0
        if response.status_code == 206 and _first_byte(response.headers) != done:
            raise DownloadError(f"the hub sent another part of {subject} than was asked for", PROXY_HINT)
        for chunk in response.iter_raw():
            new = chunk[again:][: size - done]
            again = max(0, again - len(chunk))
            file.write(new)
            done += len(new)
            moved(done)
            if done == size:
                return
    raise _TransientError(
        DownloadError(f"{subject} arrived with a wrong length: it ended too early", RERUN_HINT)
    )


def _first_byte(headers: Mapping[str, str]) -> int | None:
    """First byte of a partial response by its Content-Range; None without one."""
    span = re.match("bytes ([0-9]{1,18})-", headers.get("Content-Range", ""))
    return int(span[1]) if span else None


def _query_once(url: str, subject: str) -> tuple[bytes, str]:
    """Body of an answer, and the URL of its next page or an empty string."""
    body = bytearray()
    with _response(url, subject, {}) as response:
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise DownloadError(
                    f"the answer about {subject} is larger than {MAX_ANSWER_BYTES >> 20} MiB", PROXY_HINT
                )
        return bytes(body), str(response.links.get("next", {}).get("url", ""))


@contextmanager
def _response(url: str, subject: str, headers: Mapping[str, str]) -> Iterator[Any]:
    """Make a request and yield the response, of status 200 or 206, before its body is read.

    Refuses compressed responses, which could expand a thousandfold. Raises
    ModelNotFound, DownloadError, and _TransientError around one of them.
    """
    with ExitStack() as stack, _connection_errors(subject):
        response = stack.enter_context(_raw_response(url, subject, headers))
        status = response.status_code
        if status in TRANSIENT_STATUSES:
            raise _TransientError(_status_error(subject, status), _seconds_to_wait(response.headers))
        if status != 200 and not (status == 206 and "Range" in headers):
            raise _status_error(subject, status)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise DownloadError(f"{subject} came compressed, which was not asked for", PROXY_HINT)
        yield response


@contextmanager
def _raw_response(url: str, subject: str, headers: Mapping[str, str]) -> Iterator[Any]:
    """Yield the response to a request. Raises ModelNotFound, DownloadError; httpx2's errors pass through."""
    from huggingface_hub import errors

    hub = _hub()
    with ExitStack() as stack:
        try:
            ours = hub.utils.build_hf_headers(library_name="yuegguf", library_version=__version__)
            every = {**ours, "Accept-Encoding": "identity", **headers}
            session, wait = hub.utils.get_session(), hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
            response = stack.enter_context(session.stream("GET", url, headers=every, timeout=wait))
        except errors.OfflineModeIsEnabled as error:
            raise ModelNotFound(
                f"{subject} is not here, and HF_HUB_OFFLINE forbids the network", "unset it"
            ) from error
        except ImportError as error:
            raise RequestError(
                "a SOCKS proxy is set, for which a package is missing", "pip install 'yuegguf[socks]'"
            ) from error
        except (OSError, ValueError) as error:  # an invalid proxy, certificate or token
            raise DownloadError(
                f"no request for {subject} can be made ({_printable_reason(error)})",
                "check HTTPS_PROXY, HF_ENDPOINT, HF_TOKEN and SSL_CERT_FILE",
            ) from error
        yield response


def _seconds_to_wait(headers: Mapping[str, str]) -> float:
    """Seconds to wait according to the response's headers."""
    spent = SPENT_RATE_LIMIT.search(headers.get("RateLimit", ""))
    asked = spent[1] if spent else headers.get("Retry-After", "")
    return float(asked) if re.fullmatch("[0-9]{1,18}", asked) else 0.0


@contextmanager
def _connection_errors(subject: str) -> Iterator[None]:
    """Turn connection failures into DownloadErrors with a hint."""
    import httpx2

    try:
        yield
    except httpx2.TimeoutException as error:
        failure = DownloadError(f"the hub stopped answering while {subject} was fetched", RERUN_HINT)
        raise _TransientError(failure) from error
    except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
        raise _TransientError(_connection_failed(subject, error)) from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise _connection_failed(subject, error) from error


def _connection_failed(subject: str, error: Exception) -> DownloadError:
    return DownloadError(
        f"the connection to the hub failed while {subject} was fetched ({_printable_reason(error)})",
        RERUN_HINT,
    )


def _printable_reason(error: Exception) -> str:
    """An error's reason, which may come from a server, as one short line of ASCII."""
    return " ".join(ascii(str(error))[1:-1].split())[:200] or type(error).__name__


def _status_error(subject: str, status: int) -> YueError:
    """The error for an HTTP status."""
    if status in (401, 403):
        return ModelNotFound(
            f"the hub does not give out {subject} (status {status})",
            "log in with a token that may read it: HF_TOKEN=… yuegguf pull …",
        )
    if status in (404, 410):
        return ModelNotFound(f"the hub has no {subject} (status {status})", "check the name, and HF_ENDPOINT")
    if status == 416:
        return DownloadError(f"the hub has less of {subject} than it announced", RERUN_HINT)
    if status == 429:
        return DownloadError(
            f"the hub asks to wait before more of {subject}", "wait some minutes, then " + RERUN_HINT
        )
    return DownloadError(f"the hub failed with status {status} on {subject}", RERUN_HINT)


def _hub() -> Any:
    """huggingface_hub with its logging off; imported late because it is slow to import."""
    import huggingface_hub
    import huggingface_hub.constants
    import huggingface_hub.utils

    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    return huggingface_hub
