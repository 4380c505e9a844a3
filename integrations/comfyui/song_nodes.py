"""The nodes that make songs: Song, Draft, Refine, Stems, Extend."""

from __future__ import annotations

import math
from typing import Any

from comfy_api.v0_0_2 import io

from . import node_inputs as parts
from .audio import audio_of, recording_of
from .library import SongAudio
from .library_choice import library_at
from .running import Work, run_work
from .wanted import ExtendInputs, StemInput


def finished(work: Work[SongAudio]) -> io.NodeOutput:
    """The outputs of a node whose work is a song."""
    song = run_work(work)
    return io.NodeOutput(*map(audio_of, song.files), song.song)


def models_now(values: dict[str, Any]) -> object:
    """Identity of the models that a node's inputs name: it is executed again when they change.

    Never the same when an input that decides it comes from another node, whose value is not known yet.
    """
    if not {"server", "model", "quant"} <= values.keys():
        return math.nan
    try:
        return library_at(values["server"]).identities(values["model"], values["quant"])
    except Exception as error:  # what is wrong is said when the node is executed
        return str(error)


class YueSong(io.ComfyNode):
    """A whole song of lyrics."""

    DRAFT = False

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return parts.schema(
            "YueSong",
            "YuE Song",
            "Make a song of tags and lyrics: mix, vocals and instrumental.",
            cls.inputs(),
        )

    @classmethod
    def inputs(cls) -> list[Any]:
        """Inputs of a new song."""
        return [
            *parts.text_inputs(),
            parts.seed_input(),
            parts.VoiceType.Input("voice", optional=True, tooltip="A style reference; needs an -icl model."),
            *parts.model_inputs(),
            *parts.length_inputs(),
            io.Combo.Input("tracks", options=parts.TRACKS, default=parts.TRACKS[0], optional=True),
            parts.mix_input(),
            *parts.sampler_inputs(),
            parts.server_input(),
        ]

    @classmethod
    def fingerprint_inputs(cls, **values: Any) -> object:
        """Identity of the models."""
        return models_now(values)

    @classmethod
    def execute(cls, **values: Any) -> io.NodeOutput:
        """Generate the song, or go on with it."""
        inputs = parts.song_of(values, draft=cls.DRAFT)
        library = library_at(values.get("server"))
        return finished(lambda link: library.song(inputs, link))


class YueDraft(YueSong):
    """The draft of a song, which Refine takes to its end."""

    DRAFT = True

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return parts.schema(
            "YueDraft",
            "YuE Draft",
            "Make the draft of a song in part of its time; Refine takes it to its end.",
            cls.inputs(),
        )


class YueRefine(io.ComfyNode):
    """The rest of a drafted song."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return parts.schema(
            "YueRefine",
            "YuE Refine",
            "Take a drafted song to its end.",
            [
                io.String.Input("song", force_input=True, tooltip="The song_id of Draft."),
                parts.server_input(),
            ],
        )

    @classmethod
    def execute(cls, song: str, server: str = "") -> io.NodeOutput:
        """Refine the song, or go on with it."""
        library = library_at(server)
        return finished(lambda link: library.refine(song, link))


class YueStems(io.ComfyNode):
    """The missing track to a recording of the other one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return parts.schema(
            "YueStems",
            "YuE Stems",
            "Make an instrumental for a recorded vocal, or a vocal for a recorded instrumental.",
            [
                io.Audio.Input(
                    "recording", tooltip="It sets the song's length; its first channels are averaged."
                ),
                io.Combo.Input("recording_is", options=["vocal", "instrumental"], default="vocal"),
                *parts.text_inputs(),
                parts.seed_input(),
                io.Float.Input(
                    "offset",
                    default=0.0,
                    min=0.0,
                    max=36000.0,
                    step=0.1,
                    optional=True,
                    tooltip="Seconds into the recording where the song begins.",
                ),
                *parts.model_inputs(),
                parts.mix_input(),
                *parts.sampler_inputs(),
                parts.server_input(),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **values: Any) -> object:
        """Identity of the models."""
        return models_now(values)

    @classmethod
    def execute(cls, recording: Any, recording_is: Any, **values: Any) -> io.NodeOutput:
        """Generate the song, or go on with it."""
        given = recording_of(recording, "the recording")
        if given is None:
            raise ValueError("the recording is empty; connect audio")
        stem = StemInput(recording_is, given, values.get("offset") or 0.0)
        inputs = parts.song_of(values, stem=stem)
        library = library_at(values.get("server"))
        return finished(lambda link: library.song(inputs, link))


class YueExtend(io.ComfyNode):
    """A song that goes on from another one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return parts.schema(
            "YueExtend",
            "YuE Extend",
            "Make a new song that goes on from another one, or has a section generated again.",
            parts.extension_inputs(),
        )

    @classmethod
    def execute(cls, song: str, server: str = "", **values: Any) -> io.NodeOutput:
        """Generate the new song, or go on with it."""
        inputs = ExtendInputs(**{name: value for name, value in values.items() if value is not None})
        library = library_at(server)
        return finished(lambda link: library.extend(song, inputs, link))
