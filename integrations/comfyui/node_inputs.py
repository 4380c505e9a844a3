"""Inputs and outputs that several nodes share."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from .wanted import Sampler, SongInputs, StemInput

CATEGORY = "audio/YuE"
VoiceType = io.Custom("YUE_VOICE")
MAX_SEED = 2**63 - 1
MIXES = ["hybrid", "upstream", "vocos", "codec", "split"]
TRACKS = ["vocals and instrumental", "instrumental only", "vocals only"]
TAGS = "Genre, instruments, mood, gender and timbre of the vocal, such as: inspiring female pop airy vocal."
LYRICS = "Lyrics with a [verse], [chorus], … line above each section."
SERVER = (
    "Empty: songs are generated in ComfyUI's Python. Or the address of a running `yuegguf serve`, such as "
    "http://127.0.0.1:8451/. Its key is read from the environment variable YUEGGUF_SERVER_KEY; a link that "
    "ends with #key=… works too, but is stored in the workflow and in the files that ComfyUI saves."
)


def server_input() -> Any:
    """The widget for the address of a server."""
    return io.String.Input("server", default="", optional=True, tooltip=SERVER)


def seed_input() -> Any:
    """The widget for a seed."""
    return io.Int.Input("seed", default=0, min=0, max=MAX_SEED, control_after_generate=True)


def text_inputs() -> list[Any]:
    """Widgets for tags and lyrics."""
    return [
        io.String.Input("tags", multiline=True, default="inspiring female pop airy vocal", tooltip=TAGS),
        io.String.Input("lyrics", multiline=True, default="[verse]\n\n[chorus]\n", tooltip=LYRICS),
    ]


def length_inputs() -> list[Any]:
    """Widgets for the sections and their length."""
    return [
        io.String.Input(
            "sections", default="all", optional=True, tooltip="all, the first ones (2), or a choice (1,3-4)."
        ),
        io.Float.Input(
            "segment_seconds",
            default=30.0,
            min=1.0,
            max=300.0,
            step=0.5,
            optional=True,
            tooltip="Longest a section may be; a #length line above it overrides it.",
        ),
    ]


def model_inputs() -> list[Any]:
    """Widgets for the stage-1 model."""
    return [
        io.String.Input(
            "model",
            default="",
            optional=True,
            tooltip="Id of a model, such as en-cot, zh-cot or nano; empty: English if installed, else nano.",
        ),
        io.String.Input(
            "quant", default="", optional=True, tooltip="Number type, such as Q8_0; empty: the installed one."
        ),
    ]


def sampler_inputs() -> list[Any]:
    """Widgets for stage 1's sampler, with upstream's defaults."""

    def number(name: str, default: float, least: float, most: float) -> Any:
        return io.Float.Input(name, default=default, min=least, max=most, step=0.01, optional=True)

    return [
        number("guidance_first", 1.5, 0.0, 10.0),
        number("guidance_rest", 1.2, 0.0, 10.0),
        number("temperature", 1.0, 0.0, 10.0),
        io.Int.Input("top_k", default=50, min=0, max=1025, optional=True),
        number("top_p", 0.93, 0.0, 1.0),
        number("repetition_penalty", 1.1, 0.1, 10.0),
        io.Int.Input(
            "retries",
            default=2,
            min=0,
            max=100,
            optional=True,
            tooltip="How often a section with a fault is generated again at most.",
        ),
    ]


def mix_input() -> Any:
    """The widget for the way of mixing."""
    return io.Combo.Input("mix_mode", options=MIXES, default="hybrid", optional=True)


def extension_inputs() -> list[Any]:
    """Inputs of a song that goes on from another one."""
    numbers = {"default": 0.0, "min": 0.0, "step": 0.1, "optional": True}
    return [
        io.String.Input("song", force_input=True, tooltip="The song_id of another node."),
        seed_input(),
        io.String.Input(
            "lyrics",
            multiline=True,
            default="",
            optional=True,
            tooltip="The song's lyrics with what is to be added; empty: its own.",
        ),
        io.String.Input(
            "sections",
            default="",
            optional=True,
            tooltip="Sections to add: how many (2), which (3-4), or all; empty: the next one.",
        ),
        io.Int.Input(
            "retake",
            default=0,
            min=0,
            max=10_000,
            optional=True,
            tooltip="Number of a section to generate again; 0: add sections.",
        ),
        io.Boolean.Input(
            "keep_after", default=False, optional=True, tooltip="Keep what follows a retaken section."
        ),
        io.Float.Input("rewind", max=9999.0, tooltip="Seconds to cut off the end first.", **numbers),
        io.Boolean.Input(
            "same_section", default=False, optional=True, tooltip="Go on inside the last section."
        ),
        io.Float.Input(
            "segment_seconds",
            max=300.0,
            tooltip="Longest a section may be from now on; 0: as before.",
            **numbers,
        ),
        server_input(),
    ]


def song_outputs() -> list[Any]:
    """The three files of a song, and its id."""
    return [
        io.Audio.Output("mix", display_name="mix"),
        io.Audio.Output("vocals", display_name="vocals"),
        io.Audio.Output("instrumental", display_name="instrumental"),
        io.String.Output(
            "song_id", display_name="song_id", tooltip="For Refine and Extend; the name of the song's folder."
        ),
    ]


def schema(
    node_id: str,
    display_name: str,
    description: str,
    inputs: list[Any],
    *,
    outputs: list[Any] | None = None,
    is_output_node: bool = False,
) -> io.Schema:
    """The schema of a node of this pack; its outputs are those of a song unless others are given."""
    return io.Schema(
        node_id=node_id,
        display_name=display_name,
        category=CATEGORY,
        description=description,
        inputs=inputs,
        outputs=song_outputs() if outputs is None else outputs,
        is_output_node=is_output_node,
    )


def sampler_of(values: dict[str, Any]) -> Sampler:
    """The sampler that a node's inputs describe; those that are missing have their defaults."""
    names = Sampler.__dataclass_fields__
    return Sampler(**{name: value for name, value in values.items() if name in names and value is not None})


def song_of(values: dict[str, Any], draft: bool = False, stem: StemInput | None = None) -> SongInputs:
    """The song that a node's inputs describe; those that are missing have their defaults."""
    names = SongInputs.__dataclass_fields__
    given = {name: value for name, value in values.items() if name in names and value is not None}
    if values.get("mix_mode") is not None:
        given["mix"] = values["mix_mode"]
    return SongInputs(**{**given, "sampler": sampler_of(values), "draft": draft, "stem": stem})
