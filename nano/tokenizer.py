"""A small sentencepiece model in YuE's layout: text pieces, specials, eight codebooks.

Same kind as the real one (BPE with byte fallback, identity normaliser, dummy prefix, digits split,
spaces kept), trained on the lines below. The specials and codec pieces are appended after training
as NORMAL pieces with score 0: they are reachable by id only, because no chain of merges leads to
them. The same sentencepiece version gives the same bytes.
"""

from __future__ import annotations

import io
import struct

import sentencepiece

TEXT_PIECES = 1000
"""Pieces before the specials: unknown, <s>, </s>, 256 bytes, then learned text."""
CODEBOOKS, CODES = 8, 1024
SPECIALS = (
    "<EOD>", "<SOA>", "<EOA>", "<SOI>", "<EOI>", "<SOV>", "<EOV>", "<s_local>", "<e_local>", "<s_global>",
    "<e_global>", "<semantic>", "<acoustic>", "<stage_1>", "<dac_16k>", "<dac_44k>", "<xcodec>", "<stage_2>",
    "<semantic_mert>", "<semantic_hubert>", "<visual>", "<semanticodec>",
)  # fmt: skip
"""The 22 pieces between text and codes, in the order of YuE's tokenizer.model."""
NORMAL = 1
"""ModelProto.SentencePiece.Type; leaving the field out would mean the same."""
PROMPTS = """\
Generate music from the given lyrics segment by segment.
[Genre] inspiring female uplifting pop airy vocal electronic bright vocal
[Genre] male rock guitar drums raw energetic vocal
[Genre] soft piano ballad folk acoustic guitar warm voice
[Genre] jazz saxophone smooth hip hop rap dark bass synth dance
[start_of_segment]
[end_of_segment]
[start_of_reference]
[end_of_reference]
[verse]
[chorus]
[bridge]
[intro]
[outro]
[pre-chorus]
[instrumental]
"""
LINES = """\
The lamp is low and the harbour sleeps
A kettle sings what the window keeps
I count the boats as they come back home
One for the river and one for the foam
Hold the morning a little while
Hold the road for another mile
We were the rain on a paper roof
We were the question and not the proof
Summer came with a borrowed drum
Nobody asked where the birds came from
Turn it over and play it again
Under the bridge with the evening train
Oh, carry me over the silver hill
Carry me over, the night is still
Tell me a story that has no end
Write me a letter you never send
There is a garden behind the moon
There is a fiddle with half a tune
Every stone has a name to say
Every wave is a yesterday
Slow down, slow down, the city can wait
The bread is warm and the hour is late
Lanterns are swinging along the pier
I almost remember what brought me here
My father's coat and my mother's shoes
A pocket of pebbles, a page of news
Climb the ladder and paint the sky
Yellow for laughter and blue for why
Let the thunder be just a sound
Let the leaves be the only crown
You hum the bass and I hum the lead
The wind in the barley is all we need
Winter is teaching the trees to stand
Snow like sugar across the land
Dancing with shadows across the floor
Somebody's knocking, open the door
Breathe in slowly and let it go
Faster than falling, softer than snow
This is the chorus, so sing it loud
Two small voices above the crowd
Back to the start where the echo grew
Nothing is broken that love can't do
Sleep, little engine, your work is done
Tomorrow is waiting to meet the sun
"""


def build_tokenizer() -> bytes:
    """The serialised sentencepiece model: TEXT_PIECES + 22 + 8·1024 pieces, codes in order."""
    target = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter((PROMPTS + LINES).splitlines()),
        model_writer=target,
        model_type="bpe",
        vocab_size=TEXT_PIECES,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        split_digits=True,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    return target.getvalue() + b"".join(_entry(piece) for piece in appended_pieces())


def appended_pieces() -> list[str]:
    """The pieces behind the text, in the order of their ids."""
    codes = (f"<xcodec/{k}/{c}>" for k in range(CODEBOOKS) for c in range(CODES))
    return [*SPECIALS, *codes]


def _entry(piece: str) -> bytes:
    """One more `pieces` field (number 1) of a ModelProto: its text (1), score (2) and type (3)."""
    name = piece.encode()
    message = (
        b"\x0a" + _varint(len(name)) + name + b"\x15" + struct.pack("<f", 0.0) + b"\x18" + _varint(NORMAL)
    )
    return b"\x0a" + _varint(len(message)) + message


def _varint(value: int) -> bytes:
    """A protobuf integer: seven bits a byte, low bits first."""
    low = bytes([value & 0x7F])
    return low if value < 0x80 else bytes([value & 0x7F | 0x80]) + _varint(value >> 7)
