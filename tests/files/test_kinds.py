"""Files in the place of others: named by every reader, with the command that gets the real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from yuegguf_convert.checkpoint import FORMATS, open_checkpoint
from yuegguf_convert.llama_tensors import read_config
from yuegguf_convert.peft import CONFIG, read_peft
from yuegguf_convert.safetensors import open_file
from yuegguf_convert.tokenizer_pieces import read_vocab

from yuegguf.audio.containers import container_of
from yuegguf.codec.header import read_encoder, read_graph_header, read_metadata
from yuegguf.errors import DamagedFile, ModelNotFound
from yuegguf.files.arrays import load_array, load_arrays
from yuegguf.files.kinds import HEAD_BYTES, download_command, explain_absence, kind_of
from yuegguf.files.pth import read_state_dict
from yuegguf.lm.gguf_header import read_gguf
from yuegguf.lm.tokenizer import open_tokenizer

READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "gguf": ("model.gguf", read_gguf),
    "onnx": ("decoder.onnx", lambda path: read_graph_header(path, "decoder")),
    "onnx metadata": ("any.onnx", read_metadata),
    "onnx encoder": ("encoder.onnx", read_encoder),
    "safetensors": ("model.safetensors", open_file),
    "bin": ("pytorch_model.bin", read_state_dict),
    "pth": ("ckpt_00360000.pth", read_state_dict),
    "tokenizer of a checkpoint": ("tokenizer.model", lambda path: read_vocab(path, 9000)),
    "tokenizer beside a GGUF": (
        "tokenizer.model",
        lambda path: open_tokenizer({}, [], path.parent / "a.gguf"),
    ),
    "npy": ("codes.npy", load_array),
    "npz": ("codes.npz", lambda path: load_arrays(path, ["codes"])),
    "config.json": ("config.json", lambda path: read_config(path.parent)),
    "index.json": (FORMATS[0].index_name, lambda path: open_checkpoint(path.parent)),
    "index.json of PyTorch": ("pytorch_model.bin.index.json", lambda path: open_checkpoint(path.parent)),
    "adapter_config.json": (CONFIG, lambda path: read_peft(path.parent)),
}
"""Every reader of a model's files and the name of its file."""
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12400000000\n"
GZIP = b"\x1f\x8b\x08\0\0\0\0\0\0\3rest"
KINDS: dict[str, tuple[bytes, str]] = {
    "pointer": (
        POINTER,
        "is a git-lfs pointer to 12.4 GB, not the file itself; in a clone of its repository run: ",
    ),
    "page": (
        b"\n<!DOCTYPE html><title>404</title>",
        "is a web page; download the file itself: on Hugging Face",
    ),
    "page with a comment": (b"\xef\xbb\xbf<!-- x --><HTML>", "is a web page; download the file itself"),
    "gzip": (GZIP, "is a gzip archive; unpack it: gzip -dc {path} > {folder}/unpacked-{name}"),
    "tar": (bytes(257) + b"ustar" + bytes(250), "is a tar archive; unpack it: tar -xf {path} -C {folder}"),
    "nothing": (b"", "is an empty file"),
    "zeros": (bytes(4096), "is a file of zeros, as a download leaves that never ended"),
    "message": (b"Entry not found", "is a text (Entry not found)"),
    "XML": (
        b"<?xml version='1.0'?><Error><Code>AccessDenied",
        "is an XML text, as servers send for an error",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_calls_a_file_what_it_is(reader: str, kind: str, tmp_path: Path) -> None:
    (name, read), (content, sentence) = READERS[reader], KINDS[kind]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DamagedFile) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path} {sentence.format(path=path, folder=tmp_path, name=name)}")


@pytest.mark.parametrize("reader", [name for name in READERS if name not in ("npz",)])
def test_a_zip_archive_in_the_place_of_a_file_is_unpacked(reader: str, tmp_path: Path) -> None:
    import zipfile

    name, read = READERS[reader]
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(DamagedFile) as caught:
        read(tmp_path / name)
    command = f"unpack it: unzip {tmp_path / name} -d {tmp_path}"
    assert str(caught.value) == f"{tmp_path / name} is a zip archive; {command}"


def test_a_checkpoint_that_is_cut_off_is_no_zip_archive(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(b"PK\3\4" + bytes(26) + b"archive/data.pkl" + bytes(100))
    with pytest.raises(DamagedFile, match="is not a whole PyTorch checkpoint"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"PK\3\4" + bytes(26) + b"archive/data.pkl", "a PyTorch checkpoint"),
        ((40).to_bytes(8, "little") + b'{"w": {}', "a safetensors file"),
    ],
)
def test_weights_of_another_format_in_the_place_of_a_gguf_are_converted(
    content: bytes, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(DamagedFile) as caught:
        read_gguf(path)
    assert str(caught.value) == f"{path} is {name}; make a GGUF of its folder: yuegguf convert {tmp_path}"


def test_a_file_of_a_clone_is_fetched_by_its_git(tmp_path: Path) -> None:
    clone = tmp_path / "a clone"
    (clone / ".git").mkdir(parents=True)
    (clone / "weights").mkdir()
    path = clone / "weights" / "model.gguf"
    path.write_bytes(POINTER)
    with pytest.raises(DamagedFile) as caught:
        read_gguf(path)
    assert caught.value.hint == f"get it with: git -C '{clone}' lfs pull --include weights/model.gguf"


def test_a_file_of_a_published_repository_is_downloaded_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "YuE-s2-1B-general"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"<html>")
    with pytest.raises(DamagedFile) as caught:
        open_file(folder / "model.safetensors")
    command = f"hf download m-a-p/YuE-s2-1B-general model.safetensors --local-dir {folder}"
    assert caught.value.hint == f"get it with: {command}"
    decoder = tmp_path / "xcodec_mini_infer" / "decoders" / "decoder_131000.pth"
    line = f"hf download m-a-p/xcodec_mini_infer decoders/decoder_131000.pth --local-dir {decoder.parents[1]}"
    assert download_command(decoder) == line
    assert download_command(tmp_path / "other" / "model.gguf") == ""


def test_a_lost_link_of_a_hub_cache_names_its_blob(tmp_path: Path) -> None:
    top = tmp_path / "models--somebody--YuE-opera"
    snapshot = top / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (top / "blobs").mkdir()
    link, blob = snapshot / "model.gguf", top / "blobs" / "abc"
    link.symlink_to("../../blobs/abc")
    command = f"get it with: hf download somebody/YuE-opera model.gguf --cache-dir {tmp_path}"
    with pytest.raises(ModelNotFound) as caught:
        read_gguf(link)
    assert str(caught.value) == f"{link} is a link to {blob}, which is not there; {command}"
    (top / "blobs" / "abc.incomplete").write_bytes(bytes(250_000))
    with pytest.raises(ModelNotFound) as caught:
        read_gguf(link)
    assert str(caught.value) == f"{link} is a link to {blob}, of which only 0.2 MB arrived; {command}"
    plain = ModelNotFound("nothing there")
    assert explain_absence(top / "blobs" / "none", plain) is plain


@pytest.mark.parametrize(
    "head",
    [
        b"GGUF\3\0\0\0",
        b"RIFF\0\0\0\0WAVE",
        b"\x80\x02}q\0.",
        b"\x08\x09\x12\x07yuegguf",
        b"\n\x0e\n\x05<unk>\x15\0",
    ],
)
def test_what_a_reader_may_read_is_not_called_something_else(head: bytes) -> None:
    assert kind_of(head, ("gguf",)) is None


@pytest.mark.parametrize(
    ("text", "form"),
    [(b"Entry not found\n", "text"), (b'{"error": "x"}', "json"), ("kein Zugriff für dich".encode(), "text")],
)
def test_a_short_text_is_shown_and_nothing_in_it_steers_the_terminal(text: bytes, form: str) -> None:
    kind = kind_of(text)
    assert kind is not None
    assert kind.form == form
    assert kind_of(b"\x1b[2J" + text) is None
    long = kind_of(b"word " * HEAD_BYTES)
    assert long is not None
    assert long.name == "a text (word word word word word word word word …)"


def test_a_recording_is_named_by_the_same_table(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(GZIP)
    found = container_of(path)
    assert found is not None
    assert found.name == "a gzip archive"
    assert found.hint == f"unpack it: gzip -dc {path} > {tmp_path}/unpacked-a.wav"
