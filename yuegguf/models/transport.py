"""Requests to the hub: attempts, pauses and answers are bounded, and every failure is a sentence.

huggingface_hub gives the session (HF_TOKEN, HF_ENDPOINT, proxies) and the addresses. Its own download is not
used: it calls itself again for every attempt and believes the lengths that a server announces.
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
from yuegguf.errors import DownloadError, ModelNotFound, YueError
from yuegguf.files.atomic import storage_errors

T = TypeVar("T")
RERUN_HINT = "run the same command again, it goes on where this one stopped"
PROXY_HINT = "check HF_ENDPOINT, and the proxy if there is one"
MAX_ANSWER_BYTES = 32 << 20
"""Bytes of an answer about a repository; that about the largest on the hub has a few MiB."""
MAX_PAGES = 100
"""Pages of a repository's commits that are looked through."""
TRANSIENT_STATUSES = (408, 429, 500, 502, 503, 504)
"""Statuses after which the same request may succeed a little later."""
SPENT_RATE_LIMIT = re.compile(r"\br=0\s*;\s*t=([0-9]{1,18})\b")
"""The hub's RateLimit header when no request is left, with the seconds until there are some again."""


@dataclass(frozen=True)
class RetryLimits:
    """How often a request is made again, and how many seconds pass before that."""

    fruitless_attempts: int = 5
    """Attempts in a row that bring no new byte of a file."""
    questions: int = 3
    """Attempts at a question about a repository."""
    attempts: int = 1000
    """Attempts at one file in all."""
    first: float = 1.0
    """Seconds before the next attempt, doubled as long as nothing new arrives."""
    most: float = 30.0
    """Seconds of the longest pause of our own choice."""
    asked: float = 300.0
    """Seconds of the longest pause that the hub may ask for."""
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


def query(path: str, what: str) -> bytes:
    """The hub's answer about a repository, `what`. Raises ModelNotFound, DownloadError."""
    url = _hub().constants.ENDPOINT + path
    return _with_retries(partial(_query_once, url, what), _zero, questions=True)[0]


def query_pages(path: str, what: str) -> Iterator[bytes]:
    """The same for an answer in pages, as long as they are wanted."""
    start = _hub().constants.ENDPOINT
    url = start + path
    for _ in range(MAX_PAGES):
        body, url = _with_retries(partial(_query_once, url, what), _zero, questions=True)
        yield body
        if not url:
            return
        if not url.startswith(f"{start}/"):
            raise DownloadError(f"the answer about {what} goes on at another host", PROXY_HINT)
    raise DownloadError(f"the answer about {what} has more than {MAX_PAGES} pages", PROXY_HINT)


def download(url: str, part: Path, size: int, what: str, moved: Callable[[int], None]) -> None:
    """Append to `part` what it lacks of its `size` bytes; `moved` takes the bytes that are there.

    Bytes beyond the size are never read, and those that are there never fetched again. Raises ModelNotFound,
    DownloadError, StorageError.
    """
    with storage_errors(part):
        part.touch()
        _with_retries(partial(_download_once, url, part, size, what, moved), lambda: part.stat().st_size)


def file_url(repo: str, revision: str, name: str) -> str:
    """The address of a repository's file at a commit."""
    return str(_hub().hf_hub_url(repo, name, revision=revision))


def quoted(text: str) -> str:
    """Text as one part of an address."""
    return quote(text, safe="")


def _zero() -> int:
    return 0


def _with_retries(once: Callable[[], T], reached: Callable[[], int], questions: bool = False) -> T:
    """Repeat an attempt until it succeeds or patience ends; `reached` counts the bytes that are there."""
    patience = RETRY_LIMITS
    most = patience.questions if questions else patience.fruitless_attempts
    best, fruitless = reached(), 0
    for left in reversed(range(patience.attempts)):
        try:
            return once()
        except _TransientError as failure:
            now = reached()
            fruitless = 0 if now > best else fruitless + 1
            best = max(best, now)
            pause = max(patience.pause(fruitless), failure.asked)
            if fruitless >= most or pause > max(patience.asked, patience.most) or not left:
                raise failure.error from failure
        patience.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _download_once(url: str, part: Path, size: int, what: str, moved: Callable[[int], None]) -> None:
    """Make one attempt at the rest of a file. A server that ignores ranges sends what is there again."""
    done = part.stat().st_size
    if done == size:
        return
    wanted = {"Range": f"bytes={done}-"} if done else {}
    with _response(url, what, wanted) as response, part.open("ab") as file:
        again = done if response.status_code == 200 else 0
        if response.status_code == 206 and _first_byte(response.headers) != done:
            raise DownloadError(f"the hub sent another part of {what} than was asked for", PROXY_HINT)
        for chunk in response.iter_raw():
            new = chunk[again:][: size - done]
            again = max(0, again - len(chunk))
            file.write(new)
            done += len(new)
            moved(done)
            if done == size:
                return
    raise _TransientError(
        DownloadError(f"{what} arrived with a wrong length: it ended too early", RERUN_HINT)
    )


def _first_byte(headers: Mapping[str, str]) -> int | None:
    """Where a part of a file begins, as its Content-Range says; None where it does not."""
    span = re.match("bytes ([0-9]{1,18})-", headers.get("Content-Range", ""))
    return int(span[1]) if span else None


def _query_once(url: str, what: str) -> tuple[bytes, str]:
    """The body of an answer, and the address of its next page or nothing."""
    body = bytearray()
    with _response(url, what, {}) as response:
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise DownloadError(
                    f"the answer about {what} is larger than {MAX_ANSWER_BYTES >> 20} MiB", PROXY_HINT
                )
        return bytes(body), str(response.links.get("next", {}).get("url", ""))


@contextmanager
def _response(url: str, what: str, headers: Mapping[str, str]) -> Iterator[Any]:
    """Make a request and yield the response, of status 200 or 206, whose body is still to come.

    Nothing compressed is asked for: it could be a thousand times as large as what arrives. Raises
    ModelNotFound, DownloadError, and _PassingError around one of them.
    """
    with ExitStack() as stack, _connection_errors(what):
        response = stack.enter_context(_raw_response(url, what, headers))
        status = response.status_code
        if status in TRANSIENT_STATUSES:
            raise _TransientError(_status_error(what, status), _seconds_to_wait(response.headers))
        if status != 200 and not (status == 206 and "Range" in headers):
            raise _status_error(what, status)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise DownloadError(f"{what} came compressed, which was not asked for", PROXY_HINT)
        yield response


@contextmanager
def _raw_response(url: str, what: str, headers: Mapping[str, str]) -> Iterator[Any]:
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
                f"{what} is not here, and HF_HUB_OFFLINE forbids the network", "unset it"
            ) from error
        except (OSError, ValueError) as error:  # of a proxy, a certificate or a token that is none
            raise DownloadError(
                f"no request for {what} can be made ({_printable_reason(error)})",
                "check HTTPS_PROXY, HF_ENDPOINT, HF_TOKEN and SSL_CERT_FILE",
            ) from error
        yield response


def _seconds_to_wait(headers: Mapping[str, str]) -> float:
    """Seconds that the hub asks to wait."""
    spent = SPENT_RATE_LIMIT.search(headers.get("RateLimit", ""))
    asked = spent[1] if spent else headers.get("Retry-After", "")
    return float(asked) if re.fullmatch("[0-9]{1,18}", asked) else 0.0


@contextmanager
def _connection_errors(what: str) -> Iterator[None]:
    """Turn the failures of a connection into a sentence with the way on."""
    import httpx2

    try:
        yield
    except httpx2.TimeoutException as error:
        failure = DownloadError(f"the hub stopped answering while {what} was fetched", RERUN_HINT)
        raise _TransientError(failure) from error
    except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
        raise _TransientError(_connection_failed(what, error)) from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise _connection_failed(what, error) from error


def _connection_failed(what: str, error: Exception) -> DownloadError:
    return DownloadError(
        f"the connection to the hub failed while {what} was fetched ({_printable_reason(error)})", RERUN_HINT
    )


def _printable_reason(error: Exception) -> str:
    """The reason of an error, parts of which may come from a server, as one short line of ASCII."""
    return " ".join(ascii(str(error))[1:-1].split())[:200] or type(error).__name__


def _status_error(what: str, status: int) -> YueError:
    """The sentence for a status that is an error."""
    if status in (401, 403):
        return ModelNotFound(
            f"the hub does not give out {what} (status {status})",
            "log in with a token that may read it: HF_TOKEN=… yuegguf pull …",
        )
    if status in (404, 410):
        return ModelNotFound(f"the hub has no {what} (status {status})", "check the name, and HF_ENDPOINT")
    if status == 416:
        return DownloadError(f"the hub has less of {what} than it announced", RERUN_HINT)
    if status == 429:
        return DownloadError(
            f"the hub asks to wait before more of {what}", "wait some minutes, then " + RERUN_HINT
        )
    return DownloadError(f"the hub failed with status {status} on {what}", RERUN_HINT)


def _hub() -> Any:
    """huggingface_hub, quiet; it is slow to import and only needed here."""
    import huggingface_hub
    import huggingface_hub.constants
    import huggingface_hub.utils

    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    return huggingface_hub
