"""Songs that a running `yuegguf serve` generates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

from .http_client import Server, ServerError
from .library import SectionReport, SongAudio, check_tracks, track_files
from .running import Link
from .wanted import SILENT, ExtendInputs, SongInputs, key_of, title_of, words_of

IN_WORK = ("starting", "queued", "processing")
"""Statuses of a song that has not ended."""
POLL_SECONDS = 0.2
LOST_SECONDS = 30.0
"""Longest time without an answer while a song is generated."""
STOP_SECONDS = 120.0
"""Longest wait for a cancelled song to end."""
STEM_PARTS = {"vocal": "vocal_stem", "instrumental": "inst_stem"}
T = TypeVar("T")
P = ParamSpec("P")


def understood(
    method: Callable[Concatenate[ServerLibrary, P], T],
) -> Callable[Concatenate[ServerLibrary, P], T]:
    """A method that raises ServerError where an answer is not of the kind that it expects."""

    @wraps(method)
    def checked(self: ServerLibrary, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except (LookupError, TypeError, AttributeError) as error:
            raise ServerError(f"{self.server.base} answers otherwise, so it is no yuegguf serve") from error

    return checked


class ServerLibrary:
    """The songs of a server. All methods raise ServerError."""

    def __init__(self, server: Server, sleep: Callable[[float], None] = time.sleep) -> None:
        """`sleep` waits between two requests."""
        self.server, self._sleep = server, sleep

    @classmethod
    def at(cls, link: str, key: str = "") -> ServerLibrary:
        """The library of the link that a server prints."""
        return cls(Server.at(link, key))

    @understood
    def identity(self, model: str, quant: str, reference: str | None) -> object:
        """Names and sizes of the installed models that may be used, and the saved voice; see Library."""
        models = self.server.get("v1/models")["data"]
        used = [
            [each["id"], each.get("types", [])]
            for each in models
            if each["installed"] and (not model or each.get("role") != "stage1" or _same(each["id"], model))
        ]
        voice = self.server.get(f"v1/voices/{quote(reference, safe='')}") if reference else None
        return {"models": used, "voice": voice}

    def identities(self, model: str, quant: str) -> object:
        """The identity, which is the same with and without recordings; see Library."""
        return self.identity(model, quant, None)

    @understood
    def song(self, inputs: SongInputs, link: Link) -> SongAudio:
        """See Library."""
        voice = inputs.voice
        models = self.identity(inputs.model, inputs.quant, None if voice is None else voice.name)
        key = key_of("song", inputs, models)
        body, files = _song_body(inputs), _recordings(inputs)
        body["name"] = title_of(inputs.tags, key)
        song = self.server.post_recordings("v1/songs", body, files, {"idempotency-key": f"nodes-{key}"})
        return self._audio(self._finished(song, link), link)

    @understood
    def refine(self, song: str, link: Link) -> SongAudio:
        """See Library."""
        found = self._followed(self._get(song), link)
        check_tracks(song, _output(found))
        if found["draft"] or found["status"] != "succeeded":
            found = self._succeeded(self._followed(self._started(found["id"], "refine"), link))
        return self._audio(found, link)

    @understood
    def extend(self, song: str, inputs: ExtendInputs, link: Link) -> SongAudio:
        """See Library."""
        key = key_of("extend", song, inputs)
        found = next((self._get(each["id"]) for each in self._songs() if key in each["id"]), None)
        if found is None:
            check_tracks(song, _output(self._get(song)))  # its extension is written in the same way
            title = title_of(words_of(song), key)
            found = self.server.post(_path(song, "extend"), {**_extend_body(inputs), "name": title})
        found = self._finished(found, link)
        if found["draft"]:  # that of a draft stops as a draft
            return self.refine(found["id"], link)
        return self._audio(found, link)

    @understood
    def check(self, inputs: SongInputs) -> tuple[list[SectionReport], list[str]]:
        """See Library."""
        found = self.server.post_recordings("v1/check", _song_body(inputs), _recordings(inputs), {})
        names = ("label", "seconds", "syllables", "verdict", "advice")
        reports = [SectionReport(*(section[name] for name in names)) for section in found["sections"]]
        return reports, [str(warning) for warning in found["warnings"]]

    def _songs(self) -> Iterator[dict[str, Any]]:
        after = ""
        while True:
            page = self.server.get(f"v1/songs?limit=1000{after}")
            yield from page["data"]
            if not page["has_more"]:
                return
            after = f"&after={quote(page['data'][-1]['id'])}"

    def _get(self, song: str) -> dict[str, Any]:
        found: dict[str, Any] = self.server.get(_path(song))
        return found

    def _finished(self, song: dict[str, Any], link: Link) -> dict[str, Any]:
        """The song once it has succeeded; one that has ended before goes on."""
        if song["status"] not in (*IN_WORK, "succeeded"):
            song = self._started(song["id"], "resume")
        return self._succeeded(self._followed(song, link))

    def _started(self, song: str, route: str) -> dict[str, Any]:
        """The song after a request to go on with it, which somebody else may have made already."""
        try:
            found: dict[str, Any] = self.server.post(_path(song, route))
        except ServerError as error:
            if error.code != "in_work":
                raise
            return self._get(song)
        return found

    @staticmethod
    def _succeeded(song: dict[str, Any]) -> dict[str, Any]:
        if song["status"] == "succeeded":
            return song
        error = song["error"] or {"message": f"{song['id']} was {song['status']} at the server"}
        hint = error.get("hint") or "queue the same inputs again and it goes on"
        raise ServerError(f"{error['message']}; {hint}")

    def _followed(self, song: dict[str, Any], link: Link) -> dict[str, Any]:
        """The song once it has ended; cancelled when the node is to stop."""
        warned, failed_since, asked_since = 0, 0.0, 0.0
        while song["status"] in IN_WORK:
            now = time.monotonic()
            if link.stop.is_set() and not asked_since:
                self.server.post(_path(song["id"], "cancel"))
                asked_since = now
            if asked_since and now - asked_since > STOP_SECONDS:
                raise ServerError(f"{song['id']} does not stop at the server")
            link.report((song["progress"] or {}).get("done", 0.0))
            for warning in song["warnings"][warned:]:
                link.warn(warning)
            warned = len(song["warnings"])
            self._sleep(POLL_SECONDS)
            try:
                song, failed_since = self._get(song["id"]), 0.0
            except ServerError as error:
                failed_since = failed_since or now
                if error.status or now - failed_since > LOST_SECONDS:
                    raise
        return song

    def _audio(self, song: dict[str, Any], link: Link) -> SongAudio:
        """The audio of a song, with warnings about its sections."""
        for number, fault in song["faults"].items():
            link.warn(f"section {number} of {song['id']}: {fault}")
        check_tracks(song["id"], _output(song))
        formats = (_output(song) or {}).get("formats", ())
        there = {file["name"] for file in song["files"] if file["name"].rpartition(".")[2] in formats}
        names = track_files(song["id"], there, song["draft"])
        files = tuple(self.server.download(_path(song["id"], f"audio/{name}")) for name in names)
        return SongAudio(song["id"], files)


def _output(song: dict[str, Any]) -> dict[str, Any] | None:
    """The form in which a song's files are written; None where it is not known."""
    found: dict[str, Any] | None = (song["input"] or {}).get("output")
    return found


def _path(song: str, rest: str = "") -> str:
    return f"v1/songs/{quote(song, safe='')}{'/' if rest else ''}{rest}"


def _same(known: str, model: str) -> bool:
    """Whether a model's id may be used where `model` is asked for: with a reference, its -icl twin."""
    return known.rpartition("-")[0] == model.rpartition("-")[0]


def _recordings(inputs: SongInputs) -> dict[str, bytes]:
    """The WAV files of a request by the names of their parts."""
    given = inputs.voice.recordings() if inputs.voice is not None else {}
    if inputs.stem is not None:
        given[STEM_PARTS[inputs.stem.track]] = inputs.stem.recording
    return {name: recording.wav for name, recording in given.items()}


def _song_body(inputs: SongInputs) -> dict[str, Any]:
    """The JSON of a request for a song."""
    sampler, voice = inputs.sampler, inputs.voice
    body: dict[str, Any] = {
        "genre": inputs.tags,
        "lyrics": inputs.words,
        "seed": inputs.seed,
        "model": inputs.model.strip() or None,
        "quant": inputs.quant.strip() or None,
        "sections": inputs.sections,
        "segment_seconds": inputs.segment_seconds,
        "cfg": [sampler.guidance_first, sampler.guidance_rest],
        "temperature": sampler.temperature,
        "top_k": sampler.top_k,
        "top_p": sampler.top_p,
        "repetition_penalty": sampler.repetition_penalty,
        "retries": inputs.retries,
        "mix": inputs.mix,
        "instrumental": SILENT.get(inputs.tracks) == "vocal",
        "a_cappella": SILENT.get(inputs.tracks) == "instrumental",
        "draft": "stems" if inputs.draft else "",
        "preview_seconds": 0.0,
    }
    if voice is not None:
        body["voice"] = voice.name or None
        body["ref_start"], body["ref_end"] = voice.start, voice.end
    if inputs.stem is not None:
        body["offset"] = inputs.stem.offset
    return body


def _extend_body(inputs: ExtendInputs) -> dict[str, Any]:
    """The JSON of a request to go on from a song."""
    return {
        "seed": inputs.seed,
        "sections": inputs.sections.strip() or None,
        "lyrics": inputs.lyrics if inputs.lyrics.strip() else None,
        "retake": inputs.retake or None,
        "keep_after": inputs.keep_after,
        "rewind": inputs.rewind,
        "same_section": inputs.same_section,
        "segment_seconds": inputs.segment_seconds or None,
    }
