"""Wrong lyrics, tags, options and references: one sentence, the right exit code, no folder."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import QUICK as FAST
from helpers import TEXT, Capture, cli, refused, run_refused
from helpers import TWO_SECTIONS as LYRICS

pytestmark = pytest.mark.usefixtures("no_models")


# Lyrics, tags, options


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (
            ("-g", "pop", "-l", "none.txt"),
            5,
            "the lyrics file none.txt cannot be read (No such file or directory); check the name",
        ),
        (("-g", "pop", "-l", "."), 5, "the lyrics file . cannot be read (Is a directory); check the name"),
        (
            ("--genre-txt", "none.txt", "--lyrics", LYRICS),
            5,
            "the genre file none.txt cannot be read (No such file or directory); check the name",
        ),
        (
            ("-g", "pop", "--lyrics", ""),
            5,
            "the lyrics are empty; write sections such as [verse] with their lines",
        ),
        (
            ("-g", "pop", "--lyrics", " \n\t\n"),
            5,
            "the lyrics are empty; write sections such as [verse] with their lines",
        ),
        (
            ("-g", "pop", "--lyrics", "…"),
            5,
            "the lyrics have no words and no section label; write sections such as [verse] with their lines",
        ),
        (
            ("-g", "pop", "--lyrics", "lirics.txt"),
            5,
            "the lyrics 'lirics.txt' looks like the name of a file, and there is no such file; "
            "is it lyrics.txt?",
        ),
        (
            ("-g", "genre_typo.txt", "--lyrics", LYRICS),
            5,
            "the genre 'genre_typo.txt' looks like the name of a file, and there is no such file; "
            "check the name, or pass the text itself",
        ),
        (
            ("-g", "./none", "--lyrics", LYRICS),
            5,
            "the genre './none' looks like the name of a file, and there is no such file; "
            "check the name, or pass the text itself",
        ),
        (
            ("-g", " ", "--lyrics", LYRICS),
            5,
            'the genre tags are empty; pass tags such as "inspiring female pop airy vocal"',
        ),
        (
            ("-g", "pop", "-l", "binary"),
            5,
            "binary is not text in any encoding known here; save the lyrics as UTF-8",
        ),
        (
            ("--genre-txt", "binary", "--lyrics", LYRICS),
            5,
            "binary is not text in any encoding known here; save the genre as UTF-8",
        ),
        (("-g", "pop", "-l", "zeros"), 5, "the lyrics are not text; pass a UTF-8 text file"),
        (
            ("--genre-txt", "zeros", "--lyrics", LYRICS),
            5,
            "the genre tags are not text; pass a UTF-8 text file",
        ),
        (("-g", "pop"), 2, "pass the lyrics once: -l lyrics.txt (or --example) (see: yuegguf run --help)"),
        (
            ("--lyrics", LYRICS),
            2,
            'pass the genre once: -g "female pop" (or --example) (see: yuegguf run --help)',
        ),
        (
            (*TEXT, "-l", "binary"),
            2,
            "pass the lyrics once: -l lyrics.txt (or --example) (see: yuegguf run --help)",
        ),
    ],
)
def test_texts_that_cannot_be_generated(
    args: tuple[str, ...],
    code: int,
    sentence: str,
    capsys: Capture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "zeros").write_bytes(b"[verse]\n\0\0")
    (tmp_path / "lyrics.txt").write_text("[verse]\nla")
    assert run_refused(capsys, code, tmp_path / "out", *args) == sentence


@pytest.mark.parametrize(
    ("flags", "code", "sentence"),
    [
        (("--top-p", "2"), 5, "top-p 2.0 is out of range; use 0 to 1"),
        (("--top-p", "nan"), 5, "top-p nan is out of range; use 0 to 1"),
        (("--top-k", "-1"), 5, "top-k -1 is out of range; use 0 to 1025"),
        (("--temperature", "-1"), 5, "temperature -1.0 is out of range; use 0, or 0.01 to 10"),
        (("--repetition-penalty", "0"), 5, "repetition penalty 0.0 is out of range; use 0.1 to 10"),
        (("--snapshot-every", "-1"), 5, "snapshot seconds -1.0 is out of range; use 0, or 0.1 to 86400"),
        (
            ("--no-cfg", "--cfg", "2"),
            2,
            "--no-cfg turns --cfg off; leave one of them out (see: yuegguf run --help)",
        ),
        *(
            (
                flags,
                2,
                f"{flags[0]} has no effect with {flags[-1]}; leave one of them out (see: yuegguf run --help)",
            )
            for flags in (
                ("--vocal-gain", "3", "--instrumental"),
                ("--inst-gain", "3", "--a-cappella"),
                ("--stereo", "--a-cappella"),
            )
        ),
        (
            ("--bits", "24", "--format", "mp3,m4a"),
            5,
            "--bits has no effect with --format mp3,m4a; leave one of them out",
        ),
        (
            ("--cover", "a.png", "--format", "wav"),
            5,
            "--cover has no effect with --format wav; add a format that holds a picture",
        ),
        (
            ("--ref-start", "3"),
            2,
            "--ref-start and --ref-end need a recording; pass --ref too (see: yuegguf run --help)",
        ),
        (("--cfg", "11"), 5, "guidance 11.0 is out of range; use 0 to 10"),
        (("--bits", "12"), 5, "12 bits per sample is not offered; use --bits 16 or 24"),
        (("--format", "ogg"), 5, "unknown format in 'ogg'; use wav, flac, mp3, opus, m4a"),
        (("--format", ""), 5, "unknown format in ''; use wav, flac, mp3, opus, m4a"),
        (("--vocal-gain", "99"), 5, "the vocal gain 99.0 is out of range; use -60 to 60"),
        (
            ("--sections", "9-1"),
            5,
            "--sections 9-1 runs backwards; write 1-9",
        ),
        (("--sections", "0"), 5, "--sections 0 leaves nothing to generate; write all, 2 or 1,3-4"),
        (("--sections", "two"), 5, "--sections 'two' is not a choice of sections; write all, 2 or 1,3-4"),
        (
            ("--segment-seconds", "0.5"),
            5,
            "segment-seconds 0.5 is out of range; use 1 to 150",
        ),
        (("--seed", "-1"), 5, "seed -1 is out of range; use 0 to 9223372036854775807"),
        (
            ("--device", "quantum"),
            5,
            "there is no device 'quantum'; use auto, cpu, cuda, metal, vulkan or rpc:HOST:PORT",
        ),
        (
            ("--use-audio-prompt",),
            5,
            "a reference was asked for but not named; pass --ref, or --ref-vocal and --ref-inst",
        ),
        (("--ref", "none.wav"), 5, "there is no audio file none.wav; check the name"),
        (
            ("--ref-vocal", __file__),
            5,
            "a dual-track reference needs both tracks; pass --ref-vocal and --ref-inst",
        ),
        (
            ("--ref", __file__, "--ref-vocal", __file__, "--ref-inst", __file__),
            5,
            "a reference is one file or two tracks; pass --ref, or both tracks",
        ),
        (
            ("--ref", __file__, "--ref-start", "5", "--ref-end", "5"),
            5,
            "the reference window 5-5 s is empty; pass --ref-start < --ref-end",
        ),
        (
            ("--cfg", "x"),
            2,
            "Invalid value for --cfg: 'x' is not FIRST[,REST], such as 1.5,1.2 (see: yuegguf run --help)",
        ),
        (
            ("--cfg", "1,2,3"),
            2,
            "Invalid value for --cfg: '1,2,3' is not FIRST[,REST], such as 1.5,1.2 (see: yuegguf run --help)",
        ),
        (
            ("--ctx", "100"),
            2,
            "Invalid value for '--ctx': 100 is not in the range 512<=x<=131072 (see: yuegguf run --help)",
        ),
        (
            ("--max-memory", "much"),
            2,
            "Invalid value for '--max-memory': 'much' is not a size such as 6G or 800M (see: yuegguf run "
            "--help)",
        ),
        (("extra",), 2, "Got unexpected extra argument (extra) (see: yuegguf run --help)"),
        (
            ("--max-memory", "10M", "--threads", 1),
            4,
            "stage 1 needs about 0.2 GiB and --max-memory allows 10 MiB; --max-memory 200M would fit",
        ),
        (
            ("--model", "en-icl"),
            3,
            "en-icl, s2-general and xcodec are not installed in {root}; get them with: yuegguf pull en-icl "
            "s2-general xcodec",
        ),
        (
            ("--model", "none.gguf"),
            3,
            "there is no model file none.gguf, and s2-general and xcodec are not installed in {root}; see: "
            "yuegguf models list; get them with: yuegguf pull s2-general xcodec",
        ),
        (
            ("--stage2-model", "s2-general"),
            3,
            "s2-general is not installed in {root}; get it with: yuegguf pull s2-general",
        ),
        (("--codec", "nowhere"), 3, "nowhere/encoder.onnx is not there; make it with: yuegguf export-codec"),
    ],
)
def test_values_that_are_not_possible(
    flags: tuple[str, ...], code: int, sentence: str, capsys: Capture, tmp_path: Path
) -> None:
    said = run_refused(capsys, code, tmp_path / "out", *TEXT, "--model", "nano", *flags)
    assert said == sentence.format(root=tmp_path / "no models")


def test_a_section_that_cannot_fit_is_refused_however_late_it_comes(capsys: Capture, tmp_path: Path) -> None:
    lyrics = "[verse]\nla\n[chorus]\nlo\n#length 30\n[outro]\nla"
    line = ("-g", "pop", "--lyrics", lyrics, *FAST, "--model", "nano", "--ctx", 512)
    said = run_refused(capsys, 5, tmp_path / "out", *line)
    assert re.fullmatch(
        r"section 3 needs 30\d\d ids of context, of 512; "
        r"use a larger --ctx, a shorter --segment-seconds or fewer lyrics",
        said,
    )


def test_an_unknown_command_and_an_unread_song(capsys: Capture, tmp_path: Path) -> None:
    assert refused(capsys, 2, "sing").startswith("No such command 'sing'")
    assert run_refused(capsys, 2, tmp_path / "out", *TEXT, "--strange").startswith("No such option")
    nothing = f"{tmp_path} is not a song folder; pass a folder that holds a song.json"
    assert refused(capsys, 5, "resume", tmp_path) == nothing
    assert refused(capsys, 5, "decode", tmp_path).endswith("; pass a song folder, or name the two files")
    nowhere = tmp_path / "nowhere"
    assert refused(capsys, 5, "decode", nowhere) == f"there is no file or folder {nowhere}; check the name"
    assert (
        refused(capsys, 5, "encode", tmp_path / "a.wav")
        == f"no audio file at {tmp_path / 'a.wav'}; check the name"
    )
    said = refused(capsys, 3, "convert", tmp_path, "--name", "en-cot")
    assert said.startswith(
        f"{tmp_path} lacks the weights (model.safetensors), config.json, tokenizer.model; "
    )
    assert refused(capsys, 3, "export-codec", tmp_path).endswith("; name a copy of m-a-p/xcodec_mini_infer")


def test_with_json_the_error_is_an_object_too(capsys: Capture, tmp_path: Path) -> None:
    result = cli(capsys, "run", *TEXT, "--model", "en-cot", "--json", "-o", tmp_path / "out")
    assert result.code == result.json["error"]["code"] == 3
    assert result.error == f"error: {result.json['error']['message']}; {result.json['error']['hint']}"


def test_an_error_of_ours_is_one_line_as_well(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("yuegguf.pipeline.create.resolve", broken)
    sentence = (
        "this is a fault of yuegguf itself (ZeroDivisionError: by zero); "
        "set YUEGGUF_DEBUG=1 for details and report it"
    )
    assert run_refused(capsys, 1, tmp_path / "out", *TEXT) == sentence


# References


def test_references_that_cannot_be_used(capsys: Capture, tmp_path: Path) -> None:
    line = (tmp_path / "out", *TEXT, *FAST, "--model", "nano", "--ref")
    text = tmp_path / "text.wav"
    hint = "use a wav, flac, mp3 or ogg file that plays elsewhere"
    text.write_text("not audio")
    assert run_refused(capsys, 5, *line, text) == f"{text} is a text (not audio); {hint}"
    text.write_bytes(b"not audio\1")
    said = run_refused(capsys, 5, *line, text)
    assert said.startswith(f"{text} could not be read as audio (")
    assert said.endswith(f"; {hint}")
    empty, short = tmp_path / "empty.wav", tmp_path / "short.wav"
    soundfile.write(empty, np.zeros(0), 16000)
    assert (
        run_refused(capsys, 5, *line, empty) == f"{empty} holds no samples; use a recording that is not empty"
    )
    soundfile.write(short, np.zeros(16000), 16000)
    said = run_refused(capsys, 5, *line, short, "--ref-start", 1)
    assert said == (
        "the reference window 1-30 s holds nothing of the recording, which is 1 s long; "
        "pass an earlier --ref-start or a later --ref-end"
    )
    run_refused(capsys, 5, *line, short, "--ref-end", 0.005)
    said = run_refused(capsys, 5, *line, short, "--ref-end", "inf")
    assert said == "the reference's end inf is out of range; use 0 to 86400"


def test_a_reference_too_short_for_the_codec_leaves_no_folder(capsys: Capture, tmp_path: Path) -> None:
    short = tmp_path / "short.wav"
    soundfile.write(short, np.zeros(100), 16000)
    line = (tmp_path / "out", *TEXT, *FAST, "--model", "nano", "--ref", short)
    assert "holds nothing of the recording, which is 0 s long; " in run_refused(capsys, 5, *line)
