"""Prompt ids against the log of the authors' own run of the published stage 1: equal, id for id."""

from __future__ import annotations

import numpy as np
import pytest
import sentencepiece
from shared_data import shared_path

from yuegguf.lm.tokenizer import Tokenizer
from yuegguf.lm.vocab import Stage1Vocab, stage1_vocab
from yuegguf.measure.samples import codec_samples, stage1_samples
from yuegguf.request.lyrics import parse_lyrics
from yuegguf.stages import prompt


@pytest.fixture(scope="module")
def published() -> tuple[Tokenizer, Stage1Vocab]:
    """The published tokenizer, with the ids of the untrimmed model."""
    model = shared_path("data/tokenizer.model").read_bytes()
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    return Tokenizer(model, pieces), stage1_vocab(pieces)


@pytest.mark.parametrize("song", ["text", "reference"])
def test_every_logged_prompt_is_built_id_for_id(song: str, published: tuple[Tokenizer, Stage1Vocab]) -> None:
    tokenizer, vocab = published
    logged = np.load(shared_path("data/real-upstream-songs.npz"))
    tags = shared_path("data/genre.txt").read_text("utf-8")
    sections = parse_lyrics(shared_path("data/lyrics.txt").read_text("utf-8")).sections
    codes = np.array(codec_samples().codes, np.int16) if song == "reference" else None
    built = prompt.build(tokenizer.encode, vocab, tags, sections, sections, reference=codes)
    prompts = [built.header + built.sections[0], *(built.end_of_segment + ids for ids in built.sections[1:])]
    assert len(prompts) == 6
    for number, ids in enumerate(prompts, 1):
        assert ids == logged[f"{song}__prompt_{number}"].tolist(), number


def test_the_shipped_samples_are_those_of_the_log(published: tuple[Tokenizer, Stage1Vocab]) -> None:
    _, vocab = published
    logged = np.load(shared_path("data/real-upstream-songs.npz"))
    samples = stage1_samples("en-cot")
    assert samples.tags == shared_path("data/genre.txt").read_text("utf-8").strip()
    assert samples.lyrics == shared_path("data/lyrics.txt").read_text("utf-8")
    for number, section in enumerate(samples.sections, 1):
        assert [*vocab.ids(np.array(section.codes)), vocab.eoa] == logged[f"text__new_{number}"].tolist()
        assert section.ended == (len(section.codes) < 3000)
    reference = logged["reference__reference"] - vocab.codebook0
    assert codec_samples().codes == reference.tolist()
