"""Constants of the converters that must be those of the runtime, which does not import them."""

from __future__ import annotations

from yuegguf_convert import tokenizer_pieces
from yuegguf_onnx_codec import export, hubert

from yuegguf.codec import header, protocol
from yuegguf.lm import vocab
from yuegguf.models import registry


def test_the_exported_graphs_have_the_roles_the_version_and_the_blocks_that_are_read() -> None:
    assert export.HEADER_VERSION == header.HEADER_VERSION
    assert hubert.QUERY_BLOCK == header.QUERY_BLOCK
    assert sorted(export.GRAPH_ROLES) == sorted(header.GRAPH_ROLES) == sorted(registry.CODEC_FILES)
    assert registry.CODEC_FILES[-1] == "decoder"  # its file marks the codec as installed


def test_the_converters_and_the_runtime_have_the_same_codebooks() -> None:
    assert tokenizer_pieces.CODEBOOKS == protocol.CODEBOOKS
    assert tokenizer_pieces.CODEBOOK_SIZE == vocab.CODEBOOK_SIZE
