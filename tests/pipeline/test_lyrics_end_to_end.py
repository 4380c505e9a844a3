"""Real lyrics through the whole program: every section is sung, every word arrives, in any script."""

from __future__ import annotations

import base64
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import soundfile
from helpers import cli, ended

from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.tokenizer import open_tokenizer
from yuegguf.lm.vocab import TOKENIZER_KEY
from yuegguf.models.resolve import nano_models
from yuegguf.request.lyrics import parse_lyrics
from yuegguf.stages.prompt import header_text

FAST = ("--segment-seconds", 1, "--threads", 1, "--seed", 5, "--model", "nano")
Capture = pytest.CaptureFixture[str]

ENGLISH = """[verse]
The lamp is low, the harbour's asleep —
a kettle sings what the window keeps

[chorus]
Oh, carry me over the silver hill (the silver hill!)
"""
CHINESE = "[verse]\n清晨的窗边，水壶在歌唱\n光落在厨房的地板上\n\n[chorus]\n进来吧，路很长\n这里有你的地方\n"
JAPANESE = "[verse]\n朝の窓辺でやかんが歌う\n光が床にひろがって\n[chorus]\nおかえり、長い道だったね\n"
KOREAN = "[verse]\n아침 창가에 주전자가 노래해\n[bridge]\n먼 길이었지, 어서 들어와\n"
MIXED = """[intro]
[verse]
Hello 你好 こんにちは 안녕
çà et là, naïve, Ünïcödé, 👩‍🎤🎶 e\u0301
[outro]
la — “la” … ñ
"""
TWELVE = "".join(
    f"[{label}]\nline {i} of this song\n\n" for i, label in enumerate(["verse", "chorus"] * 6, 1)
)

LABELS = "labels are read as words that the model knows: "
CASES = [
    ("english", ENGLISH, ["verse", "chorus"], []),
    ("chinese", CHINESE, ["verse", "chorus"], []),
    ("japanese", JAPANESE, ["verse", "chorus"], []),
    ("korean", KOREAN, ["verse", "bridge"], []),
    ("mixed", MIXED, ["intro", "verse", "outro"], ["letters and their accents are joined (NFC)"]),
    ("crlf", ENGLISH.replace("\n", "\r\n"), ["verse", "chorus"], []),
    ("old mac", ENGLISH.replace("\n", "\r"), ["verse", "chorus"], []),
    ("no newline at the end", ENGLISH.rstrip(), ["verse", "chorus"], []),
    ("one section", "[chorus]\nla la la", ["chorus"], []),
    ("twelve sections", TWELVE, ["verse", "chorus"] * 6, []),
    ("empty section", "[intro]\n\n[verse]\nla\n[outro]", ["intro", "verse", "outro"], []),
    (
        "numbered",
        "[Verse 1]\nla\n[Verse 2: soft]\nlo\n",
        ["verse", "verse"],
        [f"{LABELS}[Verse 1] as [verse], [Verse 2: soft] as [verse]"],
    ),
    (
        "pre-chorus",
        "[Pre-Chorus]\nla\n[POST CHORUS]\nlo\n",
        ["prechorus", "postchorus"],
        [f"{LABELS}[Pre-Chorus] as [prechorus], [POST CHORUS] as [postchorus]"],
    ),
    ("capitals are the model's", "[Verse]\nla\n[CHORUS]\nlo\n", ["Verse", "CHORUS"], []),
    ("repeat inside a line", "[verse]\nla la [x2] la\nlo [repeat] lo\n", ["verse"], []),
    (
        "repeat on its own line",
        "[verse]\nla la\n[x2]\nlo\n",
        ["verse"],
        ["repeats are written out: [x2]"],
    ),
    ("repeated section", "[chorus x2]\nla la\n", ["chorus", "chorus"], [
        f"{LABELS}[chorus x2] as [chorus]", "repeats are written out: [chorus x2]",
    ]),
    ("control token", "[verse]\nsing <EOA> <SOA> </s>\n[chorus]\n<xcodec/0/5>\n", ["verse", "chorus"], []),
    (
        "segment marker",
        "[verse]\nla [end_of_segment] lo\n",
        ["verse"],
        ["control markers of the model are left out: [end_of_segment]"],
    ),
    (
        "lines before the first label",
        "hello there\n[chorus]\nla\n",
        ["verse", "chorus"],
        ["lines before the first label are read as a [verse]: hello there"],
    ),
    ("no label", "hello there\n\nla\n", ["verse", "verse"], [
        "no line is a label, so stanzas are sections: 2 [verse]",
    ]),
    (
        "marks",
        "[verse]\n[male]\nhello there\n[fades out]\n",
        ["verse"],
        [
            "singer marks are left out, since YuE has none: [male]",
            "stage directions are left out: [fades out]",
        ],
    ),
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("YUEGGUF_MODELS_DIR", str(tmp_path / "no models"))


@pytest.mark.parametrize(("name", "lyrics", "labels", "notices"), CASES, ids=[case[0] for case in CASES])
def test_every_section_is_generated_and_stored(
    name: str, lyrics: str, labels: list[str], notices: list[str], capsys: Capture, tmp_path: Path
) -> None:
    file = tmp_path / "lyrics.txt"
    file.write_bytes(lyrics.encode())
    result = cli(capsys, "run", "-g", "pop", "-l", file, *FAST, "-o", tmp_path / "songs", "--json")
    ended(result)
    said = [line.removeprefix("note: ") for line in result.err.splitlines() if line.startswith("note: ")]
    said = [line for line in said if "time" not in line]  # a section of 1 s has none for most of these
    assert said == notices
    assert [section["label"] for section in result.json["sections"]] == labels
    folder = Path(result.json["folder"])
    data = json.loads((folder / "song.json").read_text("utf-8"))
    assert data["request"]["lyrics"] == lyrics
    assert [section["label"] for section in data["sections"]] == labels
    assert np.load(folder / "stage1.npz")["frames"].tolist() == [50] * len(labels)
    assert soundfile.info(folder / "mix.wav").frames == 882 * 50 * len(labels)
    marked = [line.split("\t")[2] for line in (folder / "markers.txt").read_text("utf-8").splitlines()]
    assert marked == labels


@pytest.mark.parametrize(("name", "lyrics"), [case[:2] for case in CASES], ids=[case[0] for case in CASES])
def test_no_word_is_lost_on_the_way_to_the_model(name: str, lyrics: str) -> None:
    """What the ids spell is what was written, but for labels, markers and blank lines."""
    model = read_model(nano_models().stage1)
    pieces, metadata = model.pieces, model.metadata
    ids = open_tokenizer(metadata, pieces, nano_models().stage1)
    processor = sentencepiece.SentencePieceProcessor(model_proto=base64.b64decode(metadata[TOKENIZER_KEY]))
    sections = parse_lyrics(lyrics).sections
    spelled = processor.decode(ids.encode(header_text("pop", [section.text for section in sections])))
    words = unicodedata.normalize("NFC", lyrics).replace("[end_of_segment]", "").replace("[x2]\n", "").split()
    labels = {word for word in words if word.startswith("[")} | {
        "1]",
        "2:",
        "soft]",
        "CHORUS]",
        "x2]",
        "out]",
    }
    at = 0
    for word in (word for word in words if word not in labels or word in ("[x2]", "[repeat]")):
        at = spelled.index(word, at) + len(word)


def test_unicode_tags_and_title_survive(capsys: Capture, tmp_path: Path) -> None:
    genre = "流行 女声 월드뮤직 naïve"
    result = cli(
        capsys, "run", "-g", genre, "--lyrics", CHINESE, *FAST, "-o", tmp_path, "--format", "wav,flac,mp3"
    )
    folder = next(path.parent for path in tmp_path.glob("*/song.json"))
    ended(result)
    assert folder.name.startswith("流行-女声-월드뮤직-naïve-")
    text = (folder / "song.json").read_text("utf-8")
    assert genre in text
    assert "清晨的窗边" in text
    for kind in ("wav", "flac", "mp3"):
        with soundfile.SoundFile(folder / f"mix.{kind}") as file:
            assert file.title == genre


def test_length_lines_set_the_length_of_their_section(capsys: Capture, tmp_path: Path) -> None:
    lyrics = "[verse]\nla\n#length 2\n[chorus]\nlo\n[outro]\nla\n"
    result = cli(capsys, "run", "-g", "pop", "--lyrics", lyrics, *FAST, "-o", tmp_path, "--json")
    sections = {section["label"]: section for section in result.json["sections"]}
    assert 1.0 <= sections["chorus"]["seconds"] <= 2.0
    assert (sections["verse"]["seconds"], sections["outro"]["seconds"]) == (1.0, 1.0)
    refused = cli(
        capsys, "run", "-g", "pop", "--lyrics", "#length 500\n[verse]\nla", *FAST, "-o", tmp_path / "x"
    )
    assert refused.code == 5
    assert refused.error == "error: #length 500 above [verse] is out of range; use 1 to 150"


LONG = "[verse]\nla la\n\nlo lo lo lo lo lo\nli\n[outro]\nla\n"
LOST = "note: section 1 [verse] had no time for its last 2 lines in 1 s; see: yuegguf lyrics check\n"


@pytest.mark.parametrize(("strict", "codes"), [((), (0, 6)), (("--strict",), (6,))])
def test_words_without_time_are_reported_before_and_after(
    strict: tuple[str, ...], codes: tuple[int, ...], capsys: Capture, tmp_path: Path
) -> None:
    result = cli(capsys, "run", "-g", "pop", "--lyrics", LONG, *FAST, "-o", tmp_path, "--json", *strict)
    assert result.code in codes  # without --strict a fault alone gives 6
    before = "(section 1 [verse]: 6 of 9 syllables); see: yuegguf lyrics check\n"
    assert result.err.index(before) < result.err.index("s of music") < result.err.index(LOST)
    assert [section["lost_lines"] for section in result.json["sections"]] == [2, 0]
    timed = (Path(result.json["folder"]) / "lyrics.lrc").read_text("utf-8").splitlines()
    assert [line.partition("]")[2] for line in timed[3:]] == ["[verse]", " la la", "[outro]", " la"]


def test_every_command_that_makes_a_song_can_count_missing_words_as_a_fault(
    capsys: Capture, tmp_path: Path
) -> None:
    long = ("-g", "pop", "--lyrics", LONG, *FAST, "-o", tmp_path, "--retries", 0)
    drafted = ended(cli(capsys, "run", *long, "--draft", "--json")).json["folder"]
    for command in ("resume", "refine"):
        assert LOST in (result := cli(capsys, command, drafted, "--strict")).err
        assert result.code == 6
    takes = Path(ended(cli(capsys, "run", *long, "-n", 2, "--json")).json["takes"][0]["folder"]).parent
    assert cli(capsys, "resume", takes, "--strict").code == 6
    result = cli(capsys, "takes", "keep", takes, 1, 2, "--strict")
    assert result.code == 6
    assert [f"note: take-{n}, {LOST.removeprefix('note: ')}" in result.err for n in (1, 2)] == [True, True]


@pytest.mark.parametrize("strict", [False, True])
def test_a_queue_reports_missing_words(strict: bool, capsys: Capture, tmp_path: Path) -> None:
    song = {"genre": "pop", "lyrics": LONG, "segment-seconds": "1", "threads": "1", "retries": "0"}
    queue = tmp_path / "songs.yaml"
    queue.write_text(json.dumps({"songs": [{**song, "output-dir": str(tmp_path / "out")}]}))
    result = cli(capsys, "run", "--queue", queue, "--json", *(["--strict"] if strict else []))
    assert LOST in result.err
    facts = json.loads((Path(result.json["songs"][0]["folder"]) / "song.json").read_text("utf-8"))
    assert result.code == (6 if strict or facts["faults"] else 0)


def test_an_instrumental_loses_no_words(capsys: Capture, tmp_path: Path) -> None:
    line = ("run", "-g", "pop", "--lyrics", LONG, *FAST, "-o", tmp_path, "--json", "--instrumental")
    result = cli(capsys, *line, "--strict")
    assert "syllables" not in result.err
    assert [section["lost_lines"] for section in result.json["sections"]] == [0, 0]


def test_the_lrc_of_a_song_gives_the_same_song(capsys: Capture, tmp_path: Path) -> None:
    lyrics = "[verse]\nla\n\nlo\n#length 2\n[chorus]\nli li\n[outro]\n"
    first = cli(capsys, "run", "-g", "pop", "--lyrics", lyrics, *FAST, "-o", tmp_path / "a", "--json")
    folder = Path(ended(first).json["folder"])
    timed = folder / "lyrics.lrc"
    again = cli(capsys, "run", "-g", "pop", "-l", timed, *FAST, "-o", tmp_path / "b", "--json")
    other = Path(ended(again).json["folder"])
    same = [np.load(path / "stage1.npz") for path in (folder, other)]
    assert np.array_equal(same[0]["frames"], same[1]["frames"])
    assert np.array_equal(same[0]["codes"], same[1]["codes"])
    bodies = [section.body for section in parse_lyrics(timed.read_text("utf-8")).sections]
    assert bodies == [section.body for section in parse_lyrics(lyrics).sections]
    assert (other / "lyrics.lrc").read_text("utf-8") == timed.read_text("utf-8")
