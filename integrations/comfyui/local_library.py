"""Songs that are generated in ComfyUI's own Python, by the package `yuegguf` beside it."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from .library import SectionReport, SongAudio, check_tracks, track_files
from .running import Link
from .wanted import SILENT, ExtendInputs, Recording, SongInputs, VoiceInput, key_of, title_of, words_of

try:
    import yuegguf
except ImportError as error:
    raise RuntimeError(
        "the package yuegguf is not installed in ComfyUI's Python; install it there, or enter the address "
        "of a running `yuegguf serve` as `server`"
    ) from error

RECORDINGS = "recordings"
"""Folder of recordings, by their hash: a song that is gone on with reads them again."""
PHASES = {"draft": 0, "refine": 1, "master": 2}


class LocalLibrary:
    """The songs of a folder. All methods raise yuegguf.YueError."""

    def __init__(self, songs: Path) -> None:
        self.songs = songs

    def identity(self, model: str, quant: str, reference: str | None) -> object:
        """Fingerprints of the model files by role; see Library."""
        given = None
        if reference is not None:
            given = (
                yuegguf.Reference(voice=reference) if reference else yuegguf.Reference(mix="recording.wav")
            )
        return yuegguf.model_fingerprints(_choice(model, quant), given)

    def identities(self, model: str, quant: str) -> object:
        """The identity without a reference, and that with recordings; see Library."""
        return [self._identity_or_problem(model, quant, reference) for reference in (None, "")]

    def _identity_or_problem(self, model: str, quant: str, reference: str | None) -> object:
        try:
            return self.identity(model, quant, reference)
        except yuegguf.YueError as error:
            return str(error)

    def song(self, inputs: SongInputs, link: Link) -> SongAudio:
        """See Library."""
        voice = inputs.voice
        files = self.identity(inputs.model, inputs.quant, None if voice is None else voice.name)
        key = key_of("song", inputs, files)
        progress = partial(_report, link, 1 if inputs.draft else len(PHASES))
        folder = self._folder_of(key)
        if folder is None:
            song = yuegguf.generate(
                self._request(inputs),
                _choice(inputs.model, inputs.quant),
                self.songs,
                name=title_of(inputs.tags, key),
                preview=yuegguf.PreviewOptions("stems" if inputs.draft else ""),
                progress=progress,
                stop=link.stop,
            )
        else:
            song = yuegguf.resume(folder, progress=progress, stop=link.stop)
        return _audio_of(song, link)

    def refine(self, song: str, link: Link) -> SongAudio:
        """See Library."""
        progress, folder = partial(_report, link, len(PHASES)), self._folder(song)
        _check_tracks(folder)
        return _audio_of(yuegguf.refine(folder, progress=progress, stop=link.stop), link)

    def extend(self, song: str, inputs: ExtendInputs, link: Link) -> SongAudio:
        """See Library."""
        old, key = self._folder(song), key_of("extend", song, inputs)
        progress, folder = partial(_report, link, len(PHASES)), self._folder_of(key)
        if folder is not None:
            return _audio_of(yuegguf.resume(folder, progress=progress, stop=link.stop), link)
        request = yuegguf.ExtendRequest(
            inputs.seed,
            inputs.sections.strip() or None,
            inputs.lyrics if inputs.lyrics.strip() else None,
            inputs.retake or None,
            inputs.keep_after,
            inputs.rewind,
            inputs.same_section,
            inputs.segment_seconds or None,
        )
        _check_tracks(old)
        title = title_of(words_of(song), key)
        longer = yuegguf.extend(
            old, request, output_dir=self.songs, name=title, progress=progress, stop=link.stop
        )
        return _audio_of(longer, link)

    def check(self, inputs: SongInputs) -> tuple[list[SectionReport], list[str]]:
        """See Library."""
        warnings: list[str] = []

        def note(event: yuegguf.Event) -> None:
            if event.warning:
                warnings.append(event.warning)

        fits = yuegguf.check_lyrics(self._request(inputs), progress=note)
        reports = [
            SectionReport(fit.label, fit.seconds, fit.syllables, fit.verdict, fit.advice) for fit in fits
        ]
        return reports, warnings

    def _folder_of(self, key: str) -> Path | None:
        """The folder of the song with this key, if an earlier run has made it."""
        return next((file.parent for file in self.songs.glob(f"*{key}-??????/song.json")), None)

    def _folder(self, song: str) -> Path:
        """The folder of an id. Raises RuntimeError where there is none."""
        for file in self.songs.glob("*/song.json"):
            if file.parent.name == song:
                return file.parent
        raise RuntimeError(
            f"there is no song {song!r:.100} in {self.songs}; connect the song_id of the node that made it"
        )

    def _request(self, inputs: SongInputs) -> yuegguf.SongRequest:
        sampler = inputs.sampler
        sampling = yuegguf.Sampling(
            sampler.guidance_first,
            sampler.guidance_rest,
            sampler.repetition_penalty,
            sampler.temperature,
            sampler.top_k,
            sampler.top_p,
        )
        output = yuegguf.Output(mix=inputs.mix)
        if inputs.stem is not None:
            stem = inputs.stem
            track = yuegguf.GuideTrack(stem.track, str(self._stored(stem.recording)), stem.offset)
            words = inputs.lyrics if inputs.lyrics.strip() else None
            request = yuegguf.stems_request(
                track, inputs.tags, words, seed=inputs.seed, sampling=sampling, output=output
            )
            return replace(request, retries=inputs.retries)
        silent = SILENT.get(inputs.tracks)
        return yuegguf.SongRequest(
            inputs.tags,
            inputs.words,
            inputs.sections,
            inputs.segment_seconds,
            inputs.seed,
            sampling,
            self._reference(inputs.voice),
            yuegguf.GuideTrack(silent) if silent else None,
            retries=inputs.retries,
            output=output,
        )

    def _reference(self, voice: VoiceInput | None) -> yuegguf.Reference | None:
        if voice is None:
            return None
        if voice.name:
            return yuegguf.Reference(voice=voice.name)
        mix, vocal, backing = (
            None if recording is None else str(self._stored(recording))
            for recording in (voice.mix, voice.vocal, voice.instrumental)
        )
        return yuegguf.Reference(mix, vocal, backing, voice.start, voice.end)

    def _stored(self, recording: Recording) -> Path:
        """The file of a recording, whose name is its hash; one with other bytes is written again."""
        path = self.songs / RECORDINGS / f"{recording.digest}.wav"
        if not path.is_file() or path.read_bytes() != recording.wav:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}.part")
            with part.open("wb") as file:
                file.write(recording.wav)
                file.flush()
                os.fsync(file.fileno())  # a power cut must not leave the name with half of the bytes
            part.replace(path)
        return path


def _choice(model: str, quant: str) -> yuegguf.ModelChoice:
    return yuegguf.ModelChoice(model.strip() or None, quant=quant.strip() or None)


def _report(link: Link, phases: int, event: yuegguf.Event) -> None:
    """Report an event as a share of all phases, which count alike."""
    if event.warning:
        link.warn(event.warning)
    elif event.total and event.phase in PHASES:
        link.report((min(PHASES[event.phase], phases - 1) + event.done / event.total) / phases)


def _check_tracks(folder: Path) -> None:
    """Check that a song is written with both tracks, as its extension is too. Raises RuntimeError."""
    with suppress(OSError, ValueError, LookupError, TypeError):  # the program says what is wrong with it
        output = json.loads((folder / "song.json").read_bytes())["request"]["output"]
        check_tracks(folder.name, output)


def _audio_of(song: yuegguf.Song, link: Link) -> SongAudio:
    """The audio of a song, finished or of its draft, with warnings about its sections."""
    for number, fault in song.faults.items():
        link.warn(f"section {number} of {song.folder.name}: {fault}")
    names = track_files(song.folder.name, [file.name for file in song.files], song.draft)
    return SongAudio(song.folder.name, tuple((song.folder / name).read_bytes() for name in names))
