"""Checks before the first token: wrong models, lyrics and references that do not fit."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio.files import check_format
from yuegguf.audio.recording import open_recording
from yuegguf.audio.tags import read_picture
from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.lm.header import ModelFacts, ModelHeader, adapter_bytes, read_header
from yuegguf.lm.tokenizer import open_tokenizer
from yuegguf.lm.vocab import stage1_vocab
from yuegguf.models.resolve import Models
from yuegguf.planning.plan import StageFacts
from yuegguf.request.prepared import PreparedSong
from yuegguf.request.song_request import Output, Reference
from yuegguf.song import voices
from yuegguf.stages import prompt
from yuegguf.stages.stage1_task import Stage1Task, check_context


@dataclass(frozen=True)
class Headers:
    """The headers of both language models."""

    stage1: ModelHeader
    """Its bytes count its adapters, and the codec that a preview decodes with."""
    stage2: ModelHeader
    preview_bytes: int = 0
    """Bytes of that codec."""

    @property
    def facts(self) -> StageFacts:
        """Sizes of the models, for a plan."""
        return StageFacts(self.stage1.facts, self.stage2.facts)

    @property
    def stage1_alone(self) -> ModelFacts:
        """Size of stage 1 and its adapters, without that codec."""
        return replace(self.stage1.facts, bytes=self.stage1.facts.bytes - self.preview_bytes)


def read_models(models: Models, preview: bool = False) -> Headers:
    """Read both headers; with `preview` the codec's decoder is loaded beside stage 1.

    Raises ModelNotFound, DamagedFile for a model of another role or an adapter that does not fit.
    """
    first = read_header(models.stage1, "stage1")
    size = first.facts.bytes + sum(adapter_bytes(lora, first) for lora in models.loras)
    decoder = models.codec / "decoder.onnx"
    # a lost codec is refused by `check_codec`
    preview_bytes = decoder.stat().st_size if preview and decoder.is_file() else 0
    return Headers(
        replace(first, facts=replace(first.facts, bytes=size + preview_bytes)),
        read_header(models.stage2, "stage2"),
        preview_bytes,
    )


def check_codec(folder: Path) -> None:
    """Compare the headers of the codec's files. Raises ModelNotFound, DamagedFile."""
    from yuegguf.codec.onnx import OrtCodec

    OrtCodec.open(folder).close()


def codec_id(folder: Path) -> str:
    """Identity of a codec: a hash of its codebooks. Raises ModelNotFound, DamagedFile."""
    from yuegguf.codec.onnx import OrtCodec

    with closing(OrtCodec.open(folder, need=("encoder",))) as codec:
        return codec.fingerprint


def check_output(output: Output, earlier: Output | None = None) -> None:
    """Refuse formats that this machine cannot write, and a cover that is no picture.

    The cover of an `earlier` output of the song may be gone: its files are then written without. Raises
    RequestError.
    """
    for kind in output.formats:
        check_format(kind, output.bits)
    if output.cover is not None and (earlier is None or output.cover != earlier.cover):
        read_picture(Path(output.cover))


def located(song: PreparedSong) -> PreparedSong:
    """The song with its reference and its recording `located`. Raises RequestError, DamagedFile."""
    request = song.request
    reference = located_reference(request.reference) if request.reference is not None else None
    track = request.track
    if track is not None and track.file is not None:
        track = replace(track, file=str(Path(track.file).absolute()))
    return replace(song, request=replace(request, reference=reference, track=track))


def located_reference(reference: Reference) -> Reference:
    """The reference with absolute file names, since a resume may run in another folder.

    Its window becomes what of it the recording or the voice holds, in whole frames. Raises RequestError
    where that is nothing, DamagedFile for a voice.
    """
    if reference.voice is not None:
        voice = voices.load_voice(reference.voice)
        return replace(reference, start=voice.start, end=voice.end)
    named = {"mix": reference.mix, "vocal": reference.vocal, "instrumental": reference.instrumental}
    files = {track: Path(file).absolute() for track, file in named.items() if file is not None}
    window = prompt.reference_window(
        reference.start, reference.end, min(recording_frames(file) for file in files.values())
    )
    start, end = window.start / FRAME_RATE, window.stop / FRAME_RATE
    return replace(reference, **{track: str(file) for track, file in files.items()}, start=start, end=end)


def recording_frames(file: Path) -> int:
    """Frames that the codec will make of a recording, which is not decoded for it. Raises RequestError."""
    return open_recording(file).codec_frames


def reference_size(reference: Reference) -> int:
    """Codes of a located reference. Raises RequestError, DamagedFile for a voice."""
    if reference.voice is not None:
        return len(voices.load_voice(reference.voice).codes)
    return reference.frames if reference.mix is not None else 2 * reference.frames


def check_prompt(
    song: PreparedSong, model: ModelHeader, n_ctx: int, reference: NDArray[np.int16] | None = None
) -> prompt.Prompt:
    """Build the prompt as stage 1 will, and refuse sections that cannot fit into the context.

    `reference` holds the codes of its reference, where they are known. Raises RequestError, and
    ModelNotFound or DamagedFile for the tokenizer.
    """
    request, codes = song.request, reference
    if request.reference and codes is None:
        codes = np.zeros(reference_size(request.reference), np.int16)
    vocab = stage1_vocab(model.pieces)
    encode = open_tokenizer(model.metadata, model.pieces, model.path).encode
    built = prompt.build(encode, vocab, request.genre, song.all_sections, song.sections, reference=codes)
    check_context(Stage1Task(built, song.caps, request.sampling, request.seed), n_ctx)
    return built
