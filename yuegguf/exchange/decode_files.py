"""Files of codes → audio files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec.protocol import FRAME_RATE, Track
from yuegguf.errors import RequestError
from yuegguf.exchange.npy_codes import read_codes, read_track, track_from_name
from yuegguf.files.atomic import refuse_to_replace, storage_errors
from yuegguf.models.resolve import ModelChoice
from yuegguf.pipeline import engines, preflight, song_models, write_audio
from yuegguf.progress import Progress
from yuegguf.request.song_request import Output
from yuegguf.song.folder import SongFolder


@dataclass(frozen=True)
class DecodedAudio:
    """Audio files that were made of codes."""

    files: tuple[Path, ...]
    """The mix first; of one track's codes that track."""
    seconds: float


def decode_files(
    codes: Sequence[Path],
    output_dir: Path | None,
    output: Output,
    models: ModelChoice,
    threads: int | None,
    *,
    force: bool,
    progress: Progress,
) -> DecodedAudio:
    """Codes of a song folder, of a pair of tracks or of one track → audio files.

    Without a codec in `models` that of the song folder is used, else the installed one. Raises YueError;
    nothing is written then but what was already complete.
    """
    loaded = check_decoding(codes, output)
    alone, song, frames = _track_alone(codes), _song_of(codes), loaded.shape[-1]
    target = output_dir or (codes[0] if codes[0].is_dir() else codes[0].parent)
    names = [codes[0].stem] if alone else ["mix", *(["vocals", "instrumental"] if output.stems else [])]
    refuse_to_replace([target / f"{name}.{kind}" for name in names for kind in output.formats], force)
    with storage_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    title = song.title if song else codes[0].resolve().stem
    with closing(engines.open_codec(_codec_of(song, models, progress), threads)) as codec:
        if alone:
            files = write_audio.write_track(
                loaded, alone, codec, output, target / names[0], progress=progress
            )
        else:
            extra = write_audio.file_extras(song, frames) if song else write_audio.FileExtras()
            files = write_audio.write_song(
                loaded, codec, output, target, title, progress=progress, extra=extra
            )
    return DecodedAudio(tuple(files), frames / FRAME_RATE)


def check_decoding(codes: Sequence[Path], output: Output) -> NDArray[np.int16]:
    """The codes [2, 8, T], or [8, T] of one track, once it is checked that they can be decoded.

    Raises RequestError, DamagedFile.
    """
    preflight.check_output(output)
    alone, song = _track_alone(codes), _song_of(codes)
    loaded = read_track(codes[0]) if alone else song.load_codes() if song else read_codes(codes)
    if not loaded.shape[-1]:
        raise RequestError(f"{codes[0]} holds no frames of music", "pass codes of a longer recording or song")
    return loaded


def _track_alone(codes: Sequence[Path]) -> Track | None:
    """The track of a single file of codes; None for other codes."""
    return track_from_name(codes[0]) if len(codes) == 1 and codes[0].suffix == ".npy" else None


def _song_of(codes: Sequence[Path]) -> SongFolder | None:
    """The song folder that holds the codes; None for other codes. Raises DamagedFile."""
    is_song = len(codes) == 1 and (codes[0] / "song.json").is_file()
    return SongFolder.open(codes[0]) if is_song else None


def _codec_of(song: SongFolder | None, models: ModelChoice, progress: Progress) -> Path:
    """The codec that is named; else the song's own; else the installed one. Raises ModelNotFound."""
    if models.codec is None and song is not None:
        return song_models.codec_of_song(song)
    return engines.chosen_codec(models, progress)
