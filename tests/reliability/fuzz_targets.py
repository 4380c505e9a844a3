"""Every reader of files that somebody else may have written."""

from fuzz_models import MODELS
from fuzz_others import OTHERS
from fuzz_songs import SONGS

TARGETS = (*SONGS, *OTHERS, *MODELS)
