"""Times, encodings, invisible characters and titles of pasted lyrics."""

from __future__ import annotations

import unicodedata

import pytest

from yuegguf.errors import RequestError
from yuegguf.request.lyrics import Lyrics, Section, parse_lyrics
from yuegguf.request.text_decoding import decode_text

# Times


def test_an_lrc_of_labels_gives_their_lengths() -> None:
    text = "\ufeff[ar:X]\r\n[00:01.00][verse]\r\n[00:01.50] la\r\n[00:11.50][00:12.00]lo\r\n[01:00.5][outro]"
    assert parse_lyrics(text).sections == (Section("verse", "la\nlo\nlo", 59.5), Section("outro", ""))


def test_an_lrc_without_labels_has_stanzas_at_gaps() -> None:
    lines = [*range(10, 30, 4), *range(50, 60, 4)]
    text = "[length:01:10.00]\n" + "".join(
        f"[00:{second}.00]<00:{second}.10>la<00:{second}.50> {second}\n" for second in lines
    )
    assert [(s.label, len(s.body.split("\n")), s.seconds) for s in parse_lyrics(text).sections] == [
        ("verse", 5, 40.0),
        ("verse", 3, 20.0),
    ]


def sections_of(text: str) -> list[tuple[str, str, float | None]]:
    return [(section.label, section.body, section.seconds) for section in parse_lyrics(text).sections]


@pytest.mark.parametrize("blank", ["\n", "\n\n", "[00:16.00]\n", " \n"])
def test_a_blank_line_with_or_without_a_time_ends_a_stanza(blank: str) -> None:
    text = f"[00:10.00]a\n[00:13.00]b\n{blank}[00:16.00]c\n[00:19.00]d\n\n"
    assert sections_of(text) == [("verse", "a\nb", 6.0), ("verse", "c\nd", None)]


def test_blank_lines_between_all_lines_end_no_stanza() -> None:
    lines = [f"[00:{second}.00]la {second}" for second in range(10, 40, 3)]
    for width in ("\n\n", "\n\n\n"):
        assert parse_lyrics(width.join(lines)).sections == parse_lyrics("\n".join(lines)).sections
    apart = parse_lyrics("\n\n".join([*lines[:4], "", *lines[4:]])).sections
    assert [len(section.body.split("\n")) for section in apart] == [4, 6]


def test_a_blank_line_in_a_labelled_section_stays_in_it() -> None:
    text = "[00:10.00][verse]\n[00:12.00]a\n\n[00:14.00]b\n\n[00:20.00][chorus]\n[00:21.00]c\n[00:22.00]d\n"
    assert sections_of(text) == [("verse", "a\n\nb", 10.0), ("chorus", "c\nd", None)]


def test_the_blank_line_below_a_line_of_several_times_follows_each_of_them() -> None:
    text = "[00:10.00][00:30.00]a\n[00:12.00][00:32.00]b\n\n[00:14.00]c\n[00:16.00]d\n[length:00:40]"
    assert sections_of(text) == [
        ("chorus", "a\nb", 4.0), ("verse", "c\nd", 16.0), ("chorus", "a\nb", 10.0),
    ]  # fmt: skip


def test_one_time_among_plain_lyrics_sets_no_length() -> None:
    text = "a\nb\n\nc\nd\n\n[01:10] guitar\n\ne\nf\n"
    assert sections_of(text) == [("verse", body, None) for body in ("a\nb", "c\nd", "guitar", "e\nf")]
    text = "[verse]\na\n\nb\n[chorus]\nc\n\n[02:10]\nd\n"
    assert [(label, seconds) for label, _, seconds in sections_of(text)] == [
        ("verse", None),
        ("chorus", None),
    ]


COUPLETS = [(f"[00:{10 + 4 * n}.00]", f"kimi {n}", f"you {n}") for n in range(5)]


@pytest.mark.parametrize("form", ["{0}{1}\n{2}", "{0}{1}\n{0}{2}"])
@pytest.mark.parametrize("between", ["\n", "\n\n", "\n\n\n"])
def test_lines_of_one_time_stay_together(form: str, between: str) -> None:
    text = between.join(form.format(*couplet) for couplet in COUPLETS)
    words = [f"{one}\n{two}" for _, one, two in COUPLETS]
    assert sections_of(text) == [
        ("verse", "\n".join(words[:2]), 8.0),
        ("verse", "\n".join(words[2:]), None),
    ]


@pytest.mark.parametrize("mark", ["(x2)", "[00:20.00](x2)", "[x2]"])
@pytest.mark.parametrize("below", ["", "\n"])
@pytest.mark.parametrize("labels", [("[00:10.00][verse]\n", "[00:29.00][chorus]\n"), ("", "")])
def test_a_repeat_mark_belongs_to_the_lines_above_it(mark: str, below: str, labels: tuple[str, str]) -> None:
    verse, chorus = labels
    text = f"{verse}[00:10.00]a b\n[00:13.00]b c\n\n{mark}\n{below}{chorus}[00:29.00]c d\n[00:32.00]d e\n"
    assert sections_of(text) == [
        ("verse", "a b\nb c\na b\nb c", 19.0),
        ("chorus" if chorus else "verse", "c d\nd e", None),
    ]


def test_a_label_without_a_time_begins_with_the_line_below_it() -> None:
    text = "[verse]\n[00:10.00]a\n[00:12.00]b\n\n[chorus]\n[00:20.50]c\n[length:00:31]"
    assert sections_of(text) == [("verse", "a\nb", 10.5), ("chorus", "c", 10.5)]


def test_lengths_out_of_range_are_said() -> None:
    parsed = parse_lyrics("[00:00.00][intro]\n[00:00.50][verse]\n[00:00.50]la\n[05:00.00][outro]")
    assert [s.seconds for s in parsed.sections] == [None, None, None]
    assert (
        "times that give a section less than 1 or more than 150 s set no length: 0.50 s, 299.50 s"
        in parsed.notices
    )


@pytest.mark.parametrize(
    "text",
    [
        "0:15 la la\n0:20 lo lo",
        "[0:15]\nla la\n(0:20)\nlo lo",
        "1\n00:00:15,000 --> 00:00:18,000\nla la\n2\n00:00:20,000 --> 00:00:22,500\nlo lo",
        "1\n0:15,000 --> 0:18,000 X1:40 X2:600 Y1:20 Y2:50\nla la\n2\n0:20,000 --> 0:22,500 line:0\nlo lo",
    ],
)
def test_other_times_are_left_out(text: str) -> None:
    words = parse_lyrics(f"[verse]\n{text}").sections[0].body.split()
    assert words == ["la", "la", "lo", "lo"]


WEBVTT = """WEBVTT - Song
Kind: captions
Language: en

NOTE a remark
of two lines

STYLE
::cue { color: red }

first
00:01.000 --> 00:04.000 align:start position:0%
Hello <c.loud>there</c> <00:02.000>you
<v Anna>la &amp; la</v>

2
01:00:05.000 --> 01:00:08.000
NOTE is a word
"""


def test_webvtt_gives_the_words_of_its_cues() -> None:
    parsed = parse_lyrics(WEBVTT)
    assert [section.body for section in parsed.sections] == ["Hello there you\nla & la\nNOTE is a word"]
    assert (
        "tags and notes of a file with times are left out: WEBVTT - Song, NOTE a remark, STYLE"
        in parsed.notices
    )
    assert parse_lyrics(WEBVTT.replace("\n", "\r\n")) == parsed
    assert [section.body for section in parse_lyrics("[verse]\nWEBVTT is\n--> here").sections] == [
        "WEBVTT is\n--> here"
    ]


CUES = (
    (10, 12.5, "la la"),
    (13, 15.5, "lo lo"),
    (16, 18.5, "li li"),
    (30, 32.5, "ha ha"),
    (33, 36.25, "ho ho"),
)


@pytest.mark.parametrize(
    "form", ["{n}\n00:00:{a},000 --> 00:00:{b:06.3f}\n{text}\n", "00:{a}.000 --> 00:{b}\n{text}"]
)
def test_cues_are_the_lines_of_stanzas_that_gaps_end(form: str) -> None:
    text = "\n".join(form.format(n=n, a=a, b=b, text=text) for n, (a, b, text) in enumerate(CUES, 1))
    timed = "[00:10]la la\n[00:13]lo lo\n[00:16]li li\n[00:30]ha ha\n[00:33]ho ho\n[00:36.25]"
    sections = parse_lyrics(text).sections
    assert [(each.body, each.seconds) for each in sections] == [
        ("la la\nlo lo\nli li", 20.0),
        ("ha ha\nho ho", 6.25),
    ]
    assert sections == parse_lyrics(timed).sections
    labelled = parse_lyrics(
        text.replace("la la", "[Verse]\nla la").replace("ha ha", "[Chorus]\nha ha")
    ).sections
    assert [each.label for each in labelled] == ["Verse", "Chorus"]
    assert [each.seconds for each in labelled] == [20.0, None]


# Characters and encodings


@pytest.mark.parametrize("blanks", [" " * 33, "\t" * 20_000, "\u3000 " * 20_000])
@pytest.mark.parametrize("text", ["{}la la\n[verse]\nla{}la", "[verse]\n{}la la{}", "la{}by{}la:"])
def test_wide_gaps_of_a_page_are_one_space(text: str, blanks: str) -> None:
    gaps = [blanks] * text.count("{}")
    assert parse_lyrics(text.format(*gaps)) == parse_lyrics(text.format(*" " * len(gaps)))


def test_a_gap_that_may_be_meant_stays() -> None:
    words = "la" + " " * 32 + "la"
    assert parse_lyrics(f"[verse]\n{words}").sections == (Section("verse", words),)


KOREAN, JAPANESE, CHINESE = (
    "사랑해요 그대여\n먼 길이었지",
    "夢を見た、きっと\nおかえり",
    "月亮代表我的心\n进来吧，路很长",
)
WESTERN, POLISH, RUSSIAN = (
    "Über den Flüssen – „schön“\nd’été",
    "Świat śpi, noc gęstnieje\nI nikt nie wie, kto jeszcze żyje\nW oknach światła",
    "Ночь тиха\nИ спит река",
)


@pytest.mark.parametrize(
    ("text", "encoding", "name"),
    [
        (CHINESE, "gb18030", "GBK"),
        ("月亮代表我的心\n進來吧，路很長", "big5", "Big5"),
        (JAPANESE, "cp932", "Shift-JIS"),
        (JAPANESE, "euc_jp", "EUC-JP"),
        (KOREAN, "cp949", "EUC-KR"),
        (WESTERN, "cp1252", "CP1252"),
        (POLISH, "cp1250", "CP1250"),
        (RUSSIAN, "cp1251", "CP1251"),
        ("la la lo", "utf-16-le", "UTF-16-LE"),
        ("la la lo", "utf-16-be", "UTF-16-BE"),
    ],
)
def test_other_encodings_are_inferred_and_noted(text: str, encoding: str, name: str) -> None:
    decoded = decode_text(text.encode(encoding), "lyrics", "a.txt")
    assert decoded.text == text
    assert decoded.notice == f"a.txt is not UTF-8; it is read as {name}, which may be wrong"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_stated_encoding_is_no_guess(encoding: str) -> None:
    decoded = decode_text(CHINESE.encode(encoding), "lyrics", "a.txt")
    assert (decoded.text, decoded.notice) == (CHINESE, "")


@pytest.mark.parametrize(
    "data", [bytes(range(256)), b"\x7fELF\x02\x01\0\0\xff", b"\xff\xfe\0", b"\x89PNG\r\n\x1a\n"]
)
def test_bytes_that_are_no_text_are_refused(data: bytes) -> None:
    with pytest.raises(RequestError, match=r"a\.txt is not text in any encoding known here; save the lyrics"):
        decode_text(data, "lyrics", "a.txt")


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("la\rlo\u2028li\u2029le\x85lu", "la\nlo\nli\nle\nlu"),
        ("l\u200ba\ufeff l\u00ado\u2060", "la lo"),
        ("la\u00a0lo", "la lo"),
        (unicodedata.normalize("NFD", "été 한국"), "été 한국"),
        ("👩\u200d🎤 la", "👩\u200d🎤 la"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("我 爱 你", "我爱你"),
        ("月 亮 ， 代 表  我 的 心", "月亮，代表 我的心"),
        ("我 爱 baby 你", "我 爱 baby 你"),
        ("…!\n🎵", ""),
    ],
)
def test_characters_of_words(text: str, body: str) -> None:
    assert parse_lyrics(f"[verse]\n{text}").sections == (Section("verse", body),)


def test_full_width_brackets_are_brackets() -> None:
    assert [s.label for s in parse_lyrics("［verse］\nla\n【chorus】\nlo").sections] == ["verse", "chorus"]


# What stands above


@pytest.mark.parametrize(
    "head",
    [
        "Title: Lanterns",
        "Lanterns\nby Mara Quill",
        "作词：某人\n作曲：某人",
        "제목: 막차",
        "# Lanterns",
        "Lanterns Lyrics",
    ],
)
@pytest.mark.parametrize("rest", ["[chorus]\nla la", "la la"])
def test_title_and_credits_are_left_out_with_a_notice(head: str, rest: str) -> None:
    parsed = parse_lyrics(f"{head}\n\n{rest}")
    assert [s.body for s in parsed.sections] == ["la la"]
    assert f"lines above the lyrics are left out: {head.replace(chr(10), ', ')}" in parsed.notices


def test_other_lines_above_the_first_label_are_a_verse() -> None:
    parsed = parse_lyrics("by the river I sat down\n[chorus]\nla")
    assert parsed.sections[0] == Section("verse", "by the river I sat down")
    assert parsed.notices == ("lines before the first label are read as a [verse]: by the river I sat down",)


@pytest.mark.parametrize(
    "line", ["A B C, easy as", "C", "Am I", "Be", "Embed me", "like you might", "E.T. home"]
)
def test_words_that_look_like_chords_or_sites_stay(line: str) -> None:
    assert parse_lyrics(f"[verse]\nla\n{line}\nlo") == Lyrics((Section("verse", f"la\n{line}\nlo"),))


@pytest.mark.parametrize("names", [" -  ", " –   ", ": , ,", " - & ", ":  "])
def test_a_label_whose_performers_are_empty_is_a_plain_one(names: str) -> None:
    lyrics = parse_lyrics(f"[Verse{names}]\nla la\n")
    assert [section.body for section in lyrics.sections] == ["la la"]
