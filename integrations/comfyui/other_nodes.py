"""The nodes beside those that make songs: Lyrics check, Voice."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from . import node_inputs as parts
from .audio import recording_of
from .library_choice import library_at
from .running import run_work
from .wanted import VoiceInput


class YueLyricsCheck(io.ComfyNode):
    """Lyrics whose words are compared with their time."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return parts.schema(
            "YueLyricsCheck",
            "YuE Lyrics check",
            "Check before hours of generation whether each section's words fit into its time.",
            [
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
        library = library_at(values.get("server"))
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
        return parts.schema(
            "YueVoice",
            "YuE Voice",
            (
                "A style reference: one recording, a vocal with its instrumental, or a voice that "
                "`yuegguf voice save` has saved."
            ),
            [
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
        cls,
        recording: Any = None,
        vocal: Any = None,
        instrumental: Any = None,
        *,
        start: float = 0.0,
        end: float = 30.0,
        name: str | None = None,
    ) -> io.NodeOutput:
        """Collect the reference. Raises ValueError for one that is none."""
        voice = VoiceInput(
            (name or "").strip(),
            recording_of(recording, "the recording"),
            recording_of(vocal, "the vocal"),
            recording_of(instrumental, "the instrumental"),
            start,
            end,
        )
        pair = voice.vocal is not None and voice.instrumental is not None
        kinds = (bool(voice.name), voice.mix is not None, pair)
        single = (voice.vocal is None) != (voice.instrumental is None)
        if sum(kinds) != 1 or single:
            raise ValueError(
                "a voice is one of these: a saved one, one recording, a vocal with its instrumental"
            )
        return io.NodeOutput(voice)
