"""Ids come from piece names, in any vocabulary; a wrong model is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import PIECES, SPECIALS, TEXT

from yuegguf.errors import DamagedFile
from yuegguf.lm.vocab import check_role, interleave, split_tracks, stage1_vocab, stage2_vocab

CODES = PIECES[len(TEXT) + len(SPECIALS) :]


def test_ids_follow_the_pieces_in_full_padded_and_trimmed_vocabularies() -> None:
    trimmed = (*TEXT, *SPECIALS, *CODES[:1024])
    for pieces in (PIECES, (*PIECES, "[PAD1]", "[PAD2]"), trimmed):
        vocab = stage1_vocab(pieces)
        assert [pieces[i] for i in (vocab.soa, vocab.eoa, vocab.xcodec)] == ["<SOA>", "<EOA>", "<xcodec>"]
        assert [pieces[i] for i in vocab.ids(np.array([0, 1023]))] == ["<xcodec/0/0>", "<xcodec/0/1023>"]


def test_stage2_needs_no_text() -> None:
    pieces = ("<SOA>", "<stage_1>", "<stage_2>", *CODES)
    vocab = stage2_vocab(pieces)
    assert [pieces[i] for i in vocab.codebooks] == [f"<xcodec/{k}/0>" for k in range(8)]


@pytest.mark.parametrize("missing", ["<SOA>", "<EOA>", "<xcodec>", "<xcodec/0/0>", "<xcodec/0/512>"])
def test_stage1_without_a_piece_is_refused_by_its_name(missing: str) -> None:
    with pytest.raises(DamagedFile, match=missing):
        stage1_vocab([piece for piece in PIECES if piece != missing])


def test_a_trimmed_stage2_is_no_stage1_and_a_trimmed_stage1_is_no_stage2() -> None:
    with pytest.raises(DamagedFile, match="not a YuE stage-1 model"):
        stage1_vocab(("<SOA>", "<EOA>", "<xcodec>", "<stage_1>", "<stage_2>", *CODES))
    with pytest.raises(DamagedFile, match="<xcodec/1/0>"):
        stage2_vocab((*TEXT, *SPECIALS, *CODES[:1024]))


@pytest.mark.parametrize("code", [1, 510, 700, 1022])
def test_shuffled_codebook_is_refused(code: int) -> None:
    swapped = list(PIECES)
    a, b = swapped.index(f"<xcodec/0/{code}>"), swapped.index(f"<xcodec/0/{code + 1}>")
    swapped[a], swapped[b] = swapped[b], swapped[a]
    with pytest.raises(DamagedFile, match="codebook 0 are not in order"):
        stage1_vocab(swapped)


@pytest.mark.parametrize(
    ("metadata", "role", "fits"),
    [
        ({"yuegguf.role": "stage1"}, "stage1", True),
        ({"yuegguf.role": "stage2"}, "stage1", False),
        ({"llama.context_length": "8192"}, "stage1", False),
        ({"llama.context_length": "16384"}, "stage2", False),
        ({"llama.context_length": "16384"}, "stage1", True),
        ({"llama.context_length": "4096"}, "stage1", True),
        ({"llama.context_length": "²"}, "stage1", True),
        ({"llama.context_length": "1" * 5000}, "stage2", True),
        ({}, "stage2", True),
    ],
)
def test_role_of_a_file(metadata: dict[str, str], role: str, fits: bool) -> None:
    if fits:
        check_role(metadata, role, "x.gguf")
    else:
        with pytest.raises(DamagedFile, match=r"x.gguf is a stage-\d model"):
            check_role(metadata, role, "x.gguf")


def test_split_undoes_interleave_and_drops_a_dangling_code() -> None:
    vocal, backing = np.arange(5), np.arange(100, 105)
    codes = interleave(vocal, backing)
    assert codes.tolist() == [0, 100, 1, 101, 2, 102, 3, 103, 4, 104]
    assert (split_tracks(codes) == [vocal, backing]).all()
    assert split_tracks([1, 2, 3]).tolist() == [[1], [2]]
    assert split_tracks([]).shape == (2, 0)
