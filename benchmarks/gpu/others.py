"""What others' loops take on that device, beside ours: upstream's, the best in PyTorch, vLLM's."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from benchmarks.gpu.setting import STAGES, Setting
from benchmarks.gpu.table import Table
from benchmarks.peers import __main__ as peers
from benchmarks.peers.models import their_config
from yuegguf.lm.vocab import StageRole
from yuegguf.stages.stage2 import CHUNK_PROMPT_IDS

SONG = 60.0
"""Seconds."""
VLLM_IDS = 128
"""Ids that vLLM samples in each sequence."""


def upstream_stage1(setting: Setting) -> Table:
    """Seconds of stage 1 of a song: ours, the best loop in PyTorch, the official one."""
    return _compared(setting, "stage1", peers.stage_one)


def upstream_stage2(setting: Setting) -> Table:
    """Seconds of stage 2 of a song: ours, the best loop in PyTorch, the official one."""
    return _compared(setting, "stage2", peers.stage_two)


def _compared(
    setting: Setting, role: StageRole, measured: Callable[[peers.Setting], dict[str, float]]
) -> Table:
    folder = setting.folder / ("peers" if setting.model == "nano" else "")
    folder.mkdir(parents=True, exist_ok=True)
    loops = ("lean", "official")
    asked = peers.Setting(
        SONG, setting.shape(role), setting.kind, setting.far, folder, setting.device, loops, setting.budget
    )
    found = measured(asked)
    rows = [[name, seconds, seconds / found["ours"]] for name, seconds in found.items()]
    return Table(["loop", f"{role} of {SONG:.0f} s of music, s", "times ours"], rows)


def vllm_steps(setting: Setting) -> Table:
    """Milliseconds of a step of vLLM, without guidance, which it does not have."""
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found,unused-ignore]

    table = Table(["stage", "rows", "ids in each", "ms a step"])
    for role, rows in zip(STAGES, (2, 32), strict=True):
        shape, folder = setting.shape(role), setting.folder / f"vllm-{role}"
        their_config(shape).save_pretrained(folder)
        engine = LLM(
            model=str(folder),
            skip_tokenizer_init=True,
            load_format="dummy",
            dtype="bfloat16",
            max_model_len=setting.far + 2 * VLLM_IDS,
            max_num_seqs=rows,
            gpu_memory_utilization=0.4,
        )

        def seconds(length: int, count: int, *, engine: LLM = engine, rows: int = rows) -> float:
            """Seconds of a prompt of `length` ids in each row, and of `count` sampled ones."""
            draws = np.random.default_rng(length)
            prompts = [{"prompt_token_ids": draws.integers(3, 30_000, length).tolist()} for _ in range(rows)]
            sampling = SamplingParams(
                max_tokens=count, ignore_eos=True, detokenize=False, temperature=1.0, top_k=50, top_p=0.93
            )
            begun = time.perf_counter()
            engine.generate(prompts, sampling, use_tqdm=False)
            return time.perf_counter() - begun

        for length in (CHUNK_PROMPT_IDS + 300, setting.far):
            seconds(length, 2)
            step = (seconds(length, 1 + VLLM_IDS) - seconds(length, 1)) / VLLM_IDS
            table.rows.append([role, rows, length, 1e3 * step])
        del engine
    return table
