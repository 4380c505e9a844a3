"""The extension module made from `sampler.c`."""

import numpy as np
from numpy.typing import NDArray

def sample(
    logits: NDArray[np.float32],
    in_context: NDArray[np.bool_],
    eoa: int,
    codebook0: int,
    guidance: float,
    repetition_penalty: float,
    temperature: float,
    top_k: int,
    top_p: float,
    random: float,
    may_end: bool,
    /,
) -> int:
    """One choice from logits [1 or 2, n_vocab] and the choices in the context [1025].

    Raises FloatingPointError for logits that are not numbers, TypeError and IndexError for other arrays.
    """
