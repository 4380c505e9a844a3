"""What can be refused before the first token: wrong models, lyrics and references that do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from yuegguf.audio import check_format, read_audio
from yuegguf.codec.base import FRAME_RATE
from yuegguf.cost import ModelFacts, model_facts
from yuegguf.errors import RequestError
from yuegguf.lora import Lora
from yuegguf.models import Models
from yuegguf.request import Output, Reference, SongRequest
from yuegguf.stages import prompt, stage1
from yuegguf.tokenizer import open_tokenizer
from yuegguf.vocab import check_role, stage1_vocab, stage2_vocab


@dataclass(frozen=True)
class Header:
    """A GGUF without its weights."""

    path: Path
    pieces: Sequence[str]
    metadata: Mapping[str, str]
    facts: ModelFacts


def read_models(models: Models, preview: bool = False) -> tuple[Header, Header]:
    """Stage 1's and stage 2's headers; stage 1's bytes count its adapters, and what a preview decodes with.

    Raises ModelNotFound, DamagedFile for a model of another role or an adapter that does not fit.
    """
    first = inspect(models.stage1, "stage1")
    size = first.facts.bytes + sum(inspect_lora(lora, first) for lora in models.loras)
    if preview:
        decoder = models.codec / "decoder.onnx"
        size += decoder.stat().st_size if decoder.is_file() else 0  # a lost codec is refused by `check_codec`
    return replace(first, facts=replace(first.facts, bytes=size)), inspect(models.stage2, "stage2")


def inspect_lora(lora: Lora, model: Header) -> int:
    """An adapter's bytes. Raises ModelNotFound, DamagedFile when it does not fit the model."""
    from yuegguf.engine.llama import read_adapter

    return read_adapter(lora.path, model.metadata, model.path)


def inspect(path: Path, role: str) -> Header:
    """A language model's header. Raises DamagedFile when it is not of this role."""
    from yuegguf.engine.llama import read_header

    pieces, metadata = read_header(path)
    check_role(metadata, role, path.name)
    stage1_vocab(pieces) if role == "stage1" else stage2_vocab(pieces)
    return Header(path, pieces, metadata, model_facts(metadata, path.stat().st_size))


def check_codec(folder: Path) -> None:
    """Compare the headers of the codec's files. Raises ModelNotFound, DamagedFile."""
    from yuegguf.codec.ort import OrtCodec

    OrtCodec.open(folder).close()


def check_output(output: Output) -> None:
    """Refuse formats that this machine cannot write. Raises RequestError."""
    for kind in output.formats:
        check_format(kind, output.bits)


def located(request: SongRequest) -> SongRequest:
    """The request with absolute file names, since a resume may run in another folder."""
    if request.reference is None:
        return request
    old = request.reference
    mix, vocal, instrumental = (
        str(Path(file).absolute()) if file else None for file in (old.mix, old.vocal, old.instrumental)
    )
    new = replace(old, mix=mix, vocal=vocal, instrumental=instrumental)
    return replace(request, reference=new)


def reference_frames(wanted: Reference) -> int:
    """Frames of a reference's window, from its files' lengths. Raises RequestError."""
    lengths = []
    for file in filter(None, (wanted.mix, wanted.vocal, wanted.instrumental)):
        wave, rate = read_audio(Path(file))
        lengths.append(len(wave) / rate)
    frames = round(FRAME_RATE * min(wanted.end, *lengths)) - round(FRAME_RATE * wanted.start)
    if frames < 1:
        raise RequestError(
            f"the reference window {wanted.start:g}-{wanted.end:g} s holds no frame of the recording",
            "pass an earlier --ref-start or a later --ref-end",
        )
    return frames


def check_prompt(request: SongRequest, model: Header, n_ctx: int) -> prompt.Prompt:
    """Build the prompt as stage 1 will, and refuse sections that cannot fit into the context.

    Raises RequestError, and ModelNotFound or DamagedFile for the tokenizer.
    """
    codes = None
    if request.reference:
        tracks = 1 if request.reference.mix else 2
        codes = np.zeros(tracks * reference_frames(request.reference), np.int16)
    vocab = stage1_vocab(model.pieces)
    encode = open_tokenizer(model.metadata, model.pieces, model.path).encode
    sung = request.parsed().sections
    built = prompt.build(encode, vocab, request.genre, request.all_sections(), sung, codes)
    stage1.check_context(stage1.Draft(built, request.frame_caps(), request.sampling, request.seed), n_ctx)
    return built
