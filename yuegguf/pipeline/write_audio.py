"""Codes → the audio files of a song, a draft or one track."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio.cues import CuePoint
from yuegguf.audio.dsp import resample
from yuegguf.audio.files import write_audio
from yuegguf.audio.tags import Tags, read_picture
from yuegguf.audio.tempo_and_key import SURE, estimate_music
from yuegguf.codec.protocol import CODEC_RATE, SONG_HOP, SONG_RATE, AudioCodec, Track
from yuegguf.errors import RequestError
from yuegguf.progress import Event, Progress, silent
from yuegguf.request.song_request import Output
from yuegguf.song.folder import SongFolder
from yuegguf.song.markers import cue_points, song_tags
from yuegguf.song.recordings import track_index
from yuegguf.song.state import finished_sections
from yuegguf.stages import mastering, render
from yuegguf.stages.render import Renderer


@dataclass(frozen=True)
class FileExtras:
    """Markers, tags and recording that go into a song's files beside its codes."""

    recording: mastering.RecordedTrack | None = None
    marks: Sequence[CuePoint] = ()
    tags: Tags = field(default_factory=Tags)


def write_song(
    codes: NDArray[np.int16],
    codec: AudioCodec,
    output: Output,
    folder: Path,
    title: str,
    *,
    progress: Progress = silent,
    extra: FileExtras = FileExtras(),
    renderer: Renderer | None = None,
) -> list[Path]:
    """Codes [2, 8, T] → mix and stems in every format asked for; returns the files, mixes first.

    The stems are rendered here, unless by `renderer`.

    Raises RequestError, CodecError, StorageError.
    """
    _check_frames(codes)
    recording = extra.recording
    without = recording.track if recording else None
    if renderer is None:
        stems = render.render(codes, codec, progress, without=without)
    else:
        stems = renderer(codes, codec, progress, without)
    waves = mastering.master(stems, output, recording)
    if waves.notice:
        progress(Event("master", 0, codes.shape[2], warning=waves.notice))
    names = ("mix", "vocals", "instrumental")
    extra = _named(extra, output, title, progress)
    if output.tags:
        extra = replace(extra, tags=with_estimates(extra.tags, waves.mix))
    return _write(waves, names, output, folder, extra)


def write_draft(
    codes: NDArray[np.int16],
    codec: AudioCodec,
    output: Output,
    folder: Path,
    title: str,
    *,
    extra: FileExtras = FileExtras(),
) -> list[Path]:
    """Codebook 0 [2, T] → `draft` and the drafts of both tracks, by the codec alone; as `write_song`."""
    _check_frames(codes)
    decoded = render.decode_codebook0(codes, codec)
    if extra.recording:
        decoded[extra.recording.track] = 0
    stems = render.Stems(decoded, np.empty((2, 0), np.float32))
    rough = replace(output, mix="codec", loudness=output.target_loudness)
    waves = mastering.master(stems, rough, extra.recording)
    names = ("draft", "draft-vocals", "draft-instrumental")
    return _write(waves, names, output, folder, _named(extra, output, title))


def with_estimates(tags: Tags, mix: NDArray[np.float32]) -> Tags:
    """The tags with the mix's tempo and key, where they are sure."""
    estimate = estimate_music(mix if mix.ndim == 1 else mix.mean(axis=1), SONG_RATE)
    if estimate is None:
        return tags
    return replace(
        tags,
        bpm=str(round(estimate.bpm)) if estimate.tempo_confidence >= SURE else "",
        key=estimate.short_key if estimate.key_confidence >= SURE else "",
    )


def _named(extra: FileExtras, output: Output, title: str, progress: Progress = silent) -> FileExtras:
    """The extras with title, artist, year and picture in their tags; a picture that is gone is left out."""
    picture = b""
    if output.tags and output.cover is not None and set(output.formats) != {"wav"}:
        try:
            picture = read_picture(Path(output.cover))
        except RequestError as error:
            progress(Event("master", 0, 1, warning=f"there is no cover picture: {error.message}"))
    tags = replace(
        extra.tags,
        title=title.strip(),
        artist=output.artist,
        date=str(output.year or ""),
        picture=picture,
    )
    return replace(extra, tags=tags)


def _check_frames(codes: NDArray[np.int16]) -> None:
    if codes.shape[-1] == 0:
        raise RequestError("the song has no frames", "allow longer sections with --segment-seconds")


def _write(
    waves: mastering.Master,
    names: tuple[str, str, str],
    output: Output,
    folder: Path,
    extra: FileExtras,
) -> list[Path]:
    """Write the mix, and both tracks if stems are wanted, under these names."""
    tracks = dict(zip(names, (waves.mix, waves.vocals, waves.instrumental), strict=True))
    wanted = names if output.stems else names[:1]
    return [file for name in wanted for file in write_wave(folder / name, tracks[name], output, extra)]


def write_track(
    codes: NDArray[np.int16],
    track: Track,
    codec: AudioCodec,
    output: Output,
    path: Path,
    *,
    progress: Progress = silent,
) -> list[Path]:
    """One track's codes [8, T] → `path` in every format asked for. Raises CodecError, StorageError."""
    by_codec = output.mix == "codec"
    wave = render.render_track(codes, None if by_codec else track, codec, progress=progress)
    song_wave = resample(wave, CODEC_RATE, SONG_RATE) if by_codec else wave
    extra = _named(FileExtras(), output, path.name, progress)
    return write_wave(path, mastering.finish_track(song_wave, output), output, extra)


def write_wave(
    path: Path, wave: NDArray[np.float32], output: Output, extra: FileExtras = FileExtras()
) -> list[Path]:
    """One wave [S] or [S, 2] at 44.1 kHz → `path` with the ending of every format asked for.

    Marks go into WAV files. Raises StorageError.
    """
    tags = extra.tags if output.tags else None
    files = [path.with_name(f"{path.name}.{kind}") for kind in output.formats]
    for file, kind in zip(files, output.formats, strict=True):
        write_audio(file, wave, kind, bits=output.bits, tags=tags, cues=extra.marks)
    return files


def file_extras(folder: SongFolder, frames: int) -> FileExtras:
    """Markers, tags and recording of a drafted song's files. Raises DamagedFile."""
    return FileExtras(_recording(folder, frames), cue_points(finished_sections(folder)), song_tags(folder))


def _recording(folder: SongFolder, frames: int) -> mastering.RecordedTrack | None:
    """The recorded guide track that the song's files use, or None. Raises DamagedFile."""
    wanted, kept = folder.request.track, folder.load_guide_track()
    if wanted is None or wanted.re_encode or kept is None:
        return None
    wave = kept[1]
    return mastering.RecordedTrack(track_index(wanted), None if wave is None else wave[: SONG_HOP * frames])
