"""The engine when llama.cpp, or its user, does what should not happen: an EngineError, nothing leaked."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import llama_cpp as lib
import numpy as np
import pytest
from adapters import write_peft
from tiny_gguf import write_tiny
from yuegguf_convert.lora import convert_lora
from yuegguf_convert.quantize import quantize_gguf

from yuegguf.errors import DamagedFile, EngineError, Interrupted, ModelNotFound, RequestError
from yuegguf.lm import aborts, llama
from yuegguf.lm.adapters import Lora
from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.lm.loading import acquire
from yuegguf.lm.log import LOG, MAX_ERRORS, Log
from yuegguf.lm.protocol import SequenceInput

IDS = list(range(3, 43))
Patch = Callable[[str, Any], None]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


def opened(model: Path, **options: Any) -> LlamaEngine:
    return LlamaEngine(
        model, EngineOptions(**{"n_ctx": 64, "n_rows": 2, "threads": 1, "kv_type": "f32"} | options)
    )


@pytest.fixture
def engine(model: Path) -> Iterator[LlamaEngine]:
    with closing(opened(model)) as engine:
        yield engine


@pytest.fixture
def freed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is freed, in order; it is freed indeed."""
    names: list[str] = []
    for name in ("llama_free", "llama_model_free"):
        free = getattr(lib, name)
        monkeypatch.setattr(lib, name, lambda it, name=name, free=free: (names.append(name), free(it)))
    return names


# What llama.cpp answers


def test_no_logits_are_an_error(engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    for nothing in (None, 0):
        monkeypatch.setattr(llama, "LOGITS_ADDRESS", lambda context, nothing=nothing: nothing)
        with pytest.raises(EngineError, match=r"llama\.cpp computed no logits"):
            engine.decode([SequenceInput(0, [5])])


def test_a_failed_step_says_why_and_leaves_the_rows_as_they_were(
    engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.decode([SequenceInput(0, IDS)])
    expected = engine.decode([SequenceInput(0, [7])]).copy()
    engine.forget(0, len(IDS))
    real = lib.llama_decode

    def fails(context: object, batch: object) -> int:
        assert real(context, batch) == 0  # as if only a later part had failed
        complain(LOG, "out of memory")
        return -3

    monkeypatch.setattr(lib, "llama_decode", fails)
    with pytest.raises(EngineError, match=r"llama\.cpp could not decode \(out of memory\); use a smaller"):
        engine.decode([SequenceInput(0, [9, 8])])
    monkeypatch.setattr(lib, "llama_decode", real)
    assert (engine.decode([SequenceInput(0, [7])]) == expected).all()


def test_a_stopped_prompt_can_be_read_again(model: Path) -> None:
    asked = [True]
    settings = EngineOptions(64, 2, threads=1, kv_type="f32", batch=16)
    with closing(LlamaEngine(model, settings, lambda: asked[0])) as engine:
        with pytest.raises(Interrupted):
            engine.decode([SequenceInput(0, IDS)])
        asked[0] = False
        engine.forget(0, 0)
        again = engine.decode([SequenceInput(0, IDS)]).copy()
        assert (engine.decode([SequenceInput(1, IDS)]) == again).all()


# Who uses it wrongly


def test_after_closing_everything_is_an_error(model: Path, tmp_path: Path) -> None:
    engine = opened(model)
    engine.decode([SequenceInput(0, IDS)])
    engine.save(0, tmp_path / "row")
    engine.close()
    calls = (
        lambda: engine.decode([SequenceInput(0, [5])]),
        lambda: engine.forget(0, 0),
        lambda: engine.copy(0, 1),
        lambda: engine.save(0, tmp_path / "row"),
        lambda: engine.load(0, tmp_path / "row"),
    )
    for call in calls:
        with pytest.raises(EngineError, match="the model has been closed"):
            call()
    engine.close()


@pytest.mark.parametrize("row", [-1, 2, 2**31])
def test_unknown_sequences_are_refused(engine: LlamaEngine, row: int, tmp_path: Path) -> None:
    engine.decode([SequenceInput(0, IDS)])
    calls = (
        lambda: engine.forget(row, 0),
        lambda: engine.copy(0, row),
        lambda: engine.copy(row, 0),
        lambda: engine.save(row, tmp_path / "row"),
        lambda: engine.load(row, tmp_path / "row"),
    )
    for call in calls:
        with pytest.raises(EngineError, match=f"there is no sequence {row} among 2"):
            call()
    assert not (tmp_path / "row").exists()


def test_other_numbers_that_cannot_be(engine: LlamaEngine) -> None:
    engine.decode([SequenceInput(0, IDS)])
    with pytest.raises(EngineError, match="a sequence cannot keep -1 ids"):
        engine.forget(0, -1)
    with pytest.raises(EngineError, match="a batch holds no sequence, or one twice"):
        engine.decode([SequenceInput(1, [5]), SequenceInput(1, [6])])
    with pytest.raises(EngineError, match="a batch holds no sequence"):
        engine.decode([])
    for wanted in (-1, 2, 3):  # the second is more than the row has ids, the third than was agreed
        with pytest.raises(EngineError, match="sequence 1 of 2 with 1 ids"):
            engine.decode([SequenceInput(1, [5], wanted)])
    with pytest.raises(EngineError, match="could not decode"):
        engine.decode([SequenceInput(1, [10**6])])


def test_a_row_copied_onto_itself_stays(engine: LlamaEngine) -> None:
    engine.decode([SequenceInput(0, IDS)])
    expected = engine.decode([SequenceInput(0, [7])]).copy()
    engine.forget(0, len(IDS))
    engine.copy(0, 0)
    assert (engine.decode([SequenceInput(0, [7])]) == expected).all()


@pytest.mark.parametrize("batch", [4, 8, 64])
@pytest.mark.parametrize("wanted", [1, 5, 9])
def test_as_many_logits_as_requested_however_ids_fall_into_blocks(
    model: Path, batch: int, wanted: int
) -> None:
    with closing(opened(model)) as plain:
        expected = np.concatenate([plain.decode([SequenceInput(0, [i])]).copy() for i in IDS])[-wanted:]
    with closing(opened(model, batch=batch, outputs=9)) as engine:
        answer = engine.decode([SequenceInput(0, IDS, wanted), SequenceInput(1, IDS[:20], 0)])
        assert answer.shape == expected.shape
        assert np.abs(answer - expected).max() < 1e-4


# Opening that fails half-way


class Surprise(BaseException):
    """Not an error of ours."""


@pytest.mark.parametrize("fault", [Surprise, KeyboardInterrupt, MemoryError, EngineError("no")])
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("llama_init_from_model", ["llama_model_free"]),
        ("llama_adapter_lora_init", ["llama_model_free"]),
        ("llama_set_adapters_lora", ["llama_free", "llama_model_free"]),
        ("llama_model_get_vocab", ["llama_model_free"]),
        ("llama_get_memory", ["llama_free", "llama_model_free"]),
    ],
)
def test_whatever_ends_the_opening_frees_what_was_made(
    fault: BaseException | type[BaseException],
    where: str,
    expected: list[str],
    model: Path,
    adapter: Path,
    freed: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_arguments: object) -> None:
        raise fault

    monkeypatch.setattr(lib, where, fails)
    with pytest.raises(fault if isinstance(fault, type) else type(fault)):
        opened(model, loras=(Lora(adapter),))
    assert freed == expected


@pytest.fixture(scope="module")
def adapter(model: Path) -> Path:
    return convert_lora(write_peft(model.parent / "peft", model), model.parent / "lora.gguf", base=model)


def test_no_context_frees_the_model(model: Path, freed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lib, "llama_init_from_model", lambda model, params: None)
    with pytest.raises(EngineError, match=r"could not open tiny\.gguf with 2 sequences of 64 ids"):
        opened(model)
    assert freed == ["llama_model_free"]


def test_another_vocabulary_than_the_headers_is_refused(
    model: Path, freed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lib, "llama_vocab_n_tokens", lambda vocab: 5)
    with pytest.raises(EngineError, match="with another vocabulary"):
        opened(model)
    assert freed == ["llama_model_free"]


def test_closing_frees_each_once(model: Path, freed: list[str]) -> None:
    engine = opened(model)
    engine.close()
    engine.close()
    assert freed == ["llama_free", "llama_model_free"]


def test_ctrl_c_during_a_c_call_loses_no_result() -> None:
    """Python raises KeyboardInterrupt as the call returns, before its result could be assigned."""
    call = ctypes.CDLL(None)["raise"]
    call.restype = (1).__add__  # its 0 becomes 1: something that was made, by no code of Python's
    made: list[int] = []
    undo = ExitStack()
    with pytest.raises(KeyboardInterrupt):
        acquire(undo, made.append, call, int(signal.SIGINT))
    undo.close()
    assert made == [1]


# The log


def complain(log: Log, line: str, level: int = 4) -> None:
    """Say something as llama.cpp does."""
    log._callback(level, line.encode(), None)


def test_the_log_keeps_the_first_complaints_of_a_call() -> None:
    log = Log()
    log.begin()
    for line in ("", "  \n"):
        complain(log, line)
    complain(log, "a warning", level=3)
    assert (log.errors, log.detail) == ([], "")
    for i in range(MAX_ERRORS + 5):
        complain(log, f"line {i}\n")
    assert log.errors == [f"line {i}" for i in range(MAX_ERRORS)]
    assert log.detail == " (line 0)"
    log._callback(4, None, None)
    log.begin()
    assert log.errors == []


def test_engine_and_quantiser_share_one_log(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever was used last: a complaint explains the failure of the one that is at work."""
    with closing(opened(model)) as engine:
        quantize_gguf(model, tmp_path / "q.gguf", "Q8_0", threads=1)
        with pytest.raises(EngineError, match=r"could not decode \(.*invalid token"):
            engine.decode([SequenceInput(0, [10**6])])
        with pytest.raises(RequestError, match="quantised already"):
            quantize_gguf(tmp_path / "q.gguf", tmp_path / "q2.gguf", "Q8_0")
        monkeypatch.setattr("yuegguf_convert.quantize.check_type", lambda kind: kind)
        monkeypatch.setattr("yuegguf_convert.quantize.file_type", lambda kind: 9999)
        with pytest.raises(EngineError, match=r"could not quantise tiny\.gguf: .*invalid output file type"):
            quantize_gguf(model, tmp_path / "q3.gguf", "none")
        with pytest.raises(EngineError, match=r"could not decode \(.*invalid token"):
            engine.decode([SequenceInput(0, [10**6])])
    assert llama.LOG is LOG


REFUSED = r"cut\.gguf is (an empty file|a text|not a GGUF file|damaged: it ends)"


def test_files_that_are_no_model(model: Path, tmp_path: Path) -> None:
    options = EngineOptions(64, 1, threads=1)
    with pytest.raises(ModelNotFound, match="there is no file"):
        LlamaEngine(tmp_path / "none.gguf", options)
    whole = model.read_bytes()
    for cut in (0, 3, 4, 23, 1000, len(whole) // 2, len(whole) - 33):  # the last 31 may be padding
        (tmp_path / "cut.gguf").write_bytes(whole[:cut])
        with pytest.raises(DamagedFile, match=REFUSED):
            LlamaEngine(tmp_path / "cut.gguf", options)


def test_where_llama_cpp_ends_the_process_its_last_message_is_the_one_line() -> None:
    """It does so where it cannot report an error, such as a lost RPC server."""
    code = """
import ctypes
from yuegguf.lm import aborts
from yuegguf.lm.ggml import library_of
from yuegguf.cli import _end
from yuegguf.cli._console import Console
aborts.set_handler(lambda error: _end(Console(), error))
from yuegguf.lm.loading import LIBRARIES, init_backend
init_backend()
library = ctypes.CDLL(str(library_of(LIBRARIES, "ggml_abort")))
library.ggml_abort(b"/src/ggml/ggml.c", 7, b"no memory")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    hint = "resume the song, which keeps what was computed"
    assert (done.returncode, done.stderr) == (1, f"error: llama.cpp gave up (ggml.c:7: no memory); {hint}\n")


def test_a_lost_rpc_server_is_called_what_it_is() -> None:
    error = aborts.error_of("C:\\src\\ggml-rpc.cpp:566: Remote RPC server crashed")
    assert error.message.endswith("this llama.cpp (ggml-rpc.cpp:566: Remote RPC server crashed)")
    assert error.hint.startswith("start it again: yuegguf rpc-server; then resume the song")
