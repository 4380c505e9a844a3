"""Text → ids. User text can never become a control id.

Upstream's wrapper scans text for literals such as `<EOA>`; plain sentencepiece never yields an
appended id, so encoding with it alone is safe (each structural marker is its own call).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import sentencepiece

from yuegguf.errors import DamagedFile, ModelNotFound
from yuegguf.files.atomic import read_limited
from yuegguf.files.kinds import explain_absence, explain_damage
from yuegguf.lm.vocab import MAX_TOKENIZER_BYTES, TOKENIZER_KEY

OWN_HINT = "use YuE's own tokenizer.model"


class Tokenizer:
    """Sentencepiece model with the ids of one language model."""

    def __init__(self, model: bytes, pieces: Sequence[str]) -> None:
        """`model` holds the bytes of a sentencepiece file, `pieces` those of the language model.

        Raises DamagedFile when they do not belong together.
        """
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
            self._ids = _ids_by_name(self._processor, pieces)
        except (RuntimeError, TypeError, ValueError) as error:  # a piece that is not UTF-8 is a ValueError
            raise DamagedFile("the tokenizer is damaged", "convert the model again") from error

    def encode(self, text: str) -> list[int]:
        """Ids of a text; no BOS, no EOS, no specials. `encode("")` is empty."""
        ids = [self._ids[i] for i in self._processor.encode(text)]
        if any(i < 0 for i in ids):
            raise DamagedFile("the tokenizer does not belong to this model", "convert the model again")
        return ids


def open_tokenizer(metadata: Mapping[str, str], pieces: Sequence[str], model_path: Path) -> Tokenizer:
    """Open the tokenizer inside a GGUF, else the tokenizer.model beside it.

    Raises ModelNotFound without either, DamagedFile when it does not belong to the model.
    """
    embedded = metadata.get(TOKENIZER_KEY)
    if embedded is not None:
        try:
            model = base64.b64decode(embedded, validate=True)
        except ValueError as error:  # non-ASCII letters do not raise binascii.Error
            raise DamagedFile(
                f"the tokenizer inside {model_path.name} is damaged", "convert it again"
            ) from error
        return Tokenizer(model, pieces)
    beside = model_path.with_name("tokenizer.model")
    if not beside.is_file():
        hint = f"put YuE's tokenizer.model beside it, as {beside}"
        raise explain_absence(beside, ModelNotFound(f"{model_path.name} carries no tokenizer", hint))
    model = read_limited(beside, MAX_TOKENIZER_BYTES, OWN_HINT)
    try:
        return Tokenizer(model, pieces)
    except DamagedFile as error:
        raise explain_damage(beside, DamagedFile(error.message, OWN_HINT)) from error


def _ids_by_name(processor: sentencepiece.SentencePieceProcessor, pieces: Sequence[str]) -> list[int]:
    index = {piece: i for i, piece in enumerate(pieces)}
    ids = [index.get(processor.id_to_piece(i), -1) for i in range(processor.get_piece_size())]
    known = sum(i >= 0 for i in ids)
    if known < 259:  # unknown, control and byte pieces are the least a YuE text vocabulary has
        raise DamagedFile("the tokenizer does not belong to this model", "use the one it was trained with")
    return ids
