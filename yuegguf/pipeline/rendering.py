"""A refined song's files written anew: checked first, changed last."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from yuegguf.codec.protocol import AudioCodec
from yuegguf.errors import RequestError
from yuegguf.files.atomic import flush_folder, storage_errors, workspace
from yuegguf.files.steady import check_steady
from yuegguf.pipeline.preflight import check_output
from yuegguf.pipeline.song_models import codec_of_song
from yuegguf.pipeline.write_audio import file_extras, write_song
from yuegguf.progress import Progress
from yuegguf.request.song_request import Output
from yuegguf.song.folder import SongFolder
from yuegguf.song.markers import write_markers
from yuegguf.song.record import SONG_AUDIO, ModelFiles
from yuegguf.song.state import finished_sections


def check_rendering(folder: SongFolder, output: Output, codec: Path | None, force: bool) -> Path:
    """Check all that writing a song's files anew needs, and return its codec; `codec` replaces its own.

    Raises YueError.
    """
    check_output(output, folder.request.output)
    found = codec_of_song(folder, codec)
    if not force:
        check_replaceable(folder, output)
    folder.load_codes()
    return found


def check_replaceable(folder: SongFolder, output: Output) -> None:
    """Refuse to write over audio files that this song did not write. Raises RequestError."""
    record = folder.record
    ours = {*record.files, *record.older_files}
    for stem in SONG_AUDIO if output.stems else SONG_AUDIO[:1]:
        for kind in output.formats:
            name = f"{stem}.{kind}"
            if name not in ours and (folder.path / name).exists():
                raise RequestError(
                    f"{folder.path / name} is there and was not written for this song",
                    "move it away, or pass --force to replace it",
                )


def render_again(
    folder: SongFolder, output: Output, codec: AudioCodec, models: ModelFiles, progress: Progress
) -> None:
    """Write a refined song's files as `output` says, with its `models`, in a claimed folder.

    Nothing is changed before all of them are written. Files of other formats and stems that were there stay,
    noted as older. Raises YueError.
    """
    codes, sections = folder.load_codes(), finished_sections(folder)
    record, extra = folder.record, file_extras(folder, codes.shape[2])
    with storage_errors(folder.path), workspace(folder.path) as beside:
        written = write_song(codes, codec, output, beside, folder.title, progress=progress, extra=extra)
        names = tuple(path.name for path in written)
        ours = tuple(dict.fromkeys((*record.files, *record.older_files, *names)))
        request = replace(record.request, output=output)
        folder.advance("master", request=request, older_files=ours, models=models)  # a resume goes on
        for name in names:
            check_steady(folder.path / name)
            (beside / name).replace(folder.path / name)
        flush_folder(folder.path)
    write_markers(folder)
    older = tuple(name for name in ours if name not in names and (folder.path / name).exists())
    folder.advance("done", files=names, older_files=older, sections=tuple(sections))


def remove_older(folder: SongFolder) -> tuple[str, ...]:
    """Delete the audio files of earlier renderings in a claimed folder; returns their names."""
    names = folder.record.older_files
    for name in names:
        check_steady(folder.path / name)
        with storage_errors(folder.path / name):
            (folder.path / name).unlink(missing_ok=True)
    folder.advance(folder.state, older_files=())
    return names
