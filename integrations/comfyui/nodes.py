"""The nodes: Song, Draft, Refine, Stems, Extend, Lyrics check, Voice."""

from __future__ import annotations

import math
from typing import Any

from comfy_api.v0_0_2 import io

from . import node_inputs as parts
from .audio import audio_of_wav, recording_of
from .library import Library, SongAudio, library_at
from .running import Work, run_work
from .wanted import ExtendInputs, StemInput, VoiceInput


def finished(work: Work[SongAudio]) -> io.NodeOutput:
    """The outputs of a node whose work is a song."""
    song = run_work(work)
    return io.NodeOutput(*map(audio_of_wav, song.wavs), song.song)


def models_now(values: dict[str, Any]) -> object:
    """Identity of the models that a node's inputs name: it is executed again when they change.

    Never the same when an input that decides it comes from another node, whose value is not known yet.
    """
    if not {"server", "model", "quant"} <= values.keys():
        return math.nan
    library = library_at(values["server"])
    return [_identity(library, values, reference) for reference in (None, "")]


def _identity(library: Library, values: dict[str, Any], reference: str | None) -> object:
    try:
        return library.identity(values["model"], values["quant"], reference)
    except Exception as error:  # what is wrong is said when the node is executed
        return str(error)


class YueSong(io.ComfyNode):
    """A whole song of lyrics."""

    DRAFT = False

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="YueSong",
            display_name="YuE Song",
            category=parts.CATEGORY,
            description="Make a song of tags and lyrics: mix, vocals and instrumental.",
            inputs=cls.inputs(),
            outputs=parts.song_outputs(),
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
        library = library_at(values.get("server") or "")
        return finished(lambda link: library.song(inputs, link))


class YueDraft(YueSong):
    """The draft of a song, which Refine takes to its end."""

    DRAFT = True

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="YueDraft",
            display_name="YuE Draft",
            category=parts.CATEGORY,
            description="Make the draft of a song in part of its time; Refine takes it to its end.",
            inputs=cls.inputs(),
            outputs=parts.song_outputs(),
        )


class YueRefine(io.ComfyNode):
    """The rest of a drafted song."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="YueRefine",
            display_name="YuE Refine",
            category=parts.CATEGORY,
            description="Take a drafted song to its end.",
            inputs=[
                io.String.Input("song", force_input=True, tooltip="The song_id of Draft."),
                parts.server_input(),
            ],
            outputs=parts.song_outputs(),
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
        return io.Schema(
            node_id="YueStems",
            display_name="YuE Stems",
            category=parts.CATEGORY,
            description="Make an instrumental for a recorded vocal, or a vocal for a recorded instrumental.",
            inputs=[
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
            outputs=parts.song_outputs(),
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
        library = library_at(values.get("server") or "")
        return finished(lambda link: library.song(inputs, link))


class YueExtend(io.ComfyNode):
    """A song that goes on from another one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        numbers = {"default": 0.0, "min": 0.0, "step": 0.1, "optional": True}
        return io.Schema(
            node_id="YueExtend",
            display_name="YuE Extend",
            category=parts.CATEGORY,
            description="Make a new song that goes on from another one, or has a section generated again.",
            inputs=[
                io.String.Input("song", force_input=True, tooltip="The song_id of another node."),
                parts.seed_input(),
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
                parts.server_input(),
            ],
            outputs=parts.song_outputs(),
        )

    @classmethod
    def execute(cls, song: str, server: str = "", **values: Any) -> io.NodeOutput:
        """Generate the new song, or go on with it."""
        inputs = ExtendInputs(**{name: value for name, value in values.items() if value is not None})
        library = library_at(server or "")
        return finished(lambda link: library.extend(song, inputs, link))


class YueLyricsCheck(io.ComfyNode):
    """Lyrics whose words are compared with their time."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="YueLyricsCheck",
            display_name="YuE Lyrics check",
            category=parts.CATEGORY,
            description="Check before hours of generation whether each section's words fit into its time.",
            inputs=[
                *parts.text_inputs(),
                *parts.length_inputs(),
                io.Boolean.Input(
                    "stop_if_too_long",
                    default=False,
                    optional=True,
                    tooltip="Fail where a section has more words than its time can hold.",
                ),
                parts.server_input(),
            ],
            outputs=[
                io.String.Output("checked_lyrics", display_name="lyrics"),
                io.String.Output("report", display_name="report"),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, tags: str, lyrics: str, **values: Any) -> io.NodeOutput:
        """Check the lyrics and pass them on."""
        inputs = parts.song_of({**values, "tags": tags, "lyrics": lyrics})
        library = library_at(values.get("server") or "")
        sections, warnings = run_work(lambda link: library.check(inputs))
        lines = [
            f"{number}. {each.label}: {each.syllables} syllables in {each.seconds:g} s: {each.verdict}"
            + (f"; {each.advice}" if each.advice else "")
            for number, each in enumerate(sections, 1)
        ]
        report = "\n".join([*lines, *warnings])
        if values.get("stop_if_too_long") and any(each.verdict == "too long" for each in sections):
            raise ValueError(f"words would be lost:\n{report}")
        return io.NodeOutput(lyrics, report, ui={"text": [report]})


class YueVoice(io.ComfyNode):
    """A style reference for Song and Draft."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="YueVoice",
            display_name="YuE Voice",
            category=parts.CATEGORY,
            description=(
                "A style reference: one recording, a vocal with its instrumental, or a voice that "
                "`yuegguf voice save` has saved."
            ),
            inputs=[
                io.Audio.Input("recording", optional=True, tooltip="A song, a vocal or an instrumental."),
                io.Audio.Input(
                    "vocal", optional=True, tooltip="The vocal, where the instrumental is there too."
                ),
                io.Audio.Input("instrumental", optional=True),
                io.Float.Input("start", default=0.0, min=0.0, max=36000.0, step=0.1, optional=True),
                io.Float.Input("end", default=30.0, min=0.0, max=36000.0, step=0.1, optional=True),
                io.String.Input("name", default="", optional=True, tooltip="Name of a saved voice instead."),
            ],
            outputs=[parts.VoiceType.Output("voice", display_name="voice")],
        )

    @classmethod
    def execute(
        cls, recording: Any = None, vocal: Any = None, instrumental: Any = None, **values: Any
    ) -> io.NodeOutput:
        """Collect the reference. Raises ValueError for one that is none."""
        voice = VoiceInput(
            (values.get("name") or "").strip(),
            recording_of(recording, "the recording"),
            recording_of(vocal, "the vocal"),
            recording_of(instrumental, "the instrumental"),
            values.get("start", 0.0),
            values.get("end", 30.0),
        )
        pair = voice.vocal is not None and voice.instrumental is not None
        kinds = (bool(voice.name), voice.mix is not None, pair)
        single = (voice.vocal is None) != (voice.instrumental is None)
        if sum(kinds) != 1 or single:
            raise ValueError(
                "a voice is one of these: a saved one, one recording, a vocal with its instrumental"
            )
        return io.NodeOutput(voice)


NODES = (YueSong, YueDraft, YueRefine, YueStems, YueExtend, YueLyricsCheck, YueVoice)
"""All nodes."""
