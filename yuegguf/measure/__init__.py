"""Measurements: forecast of a song, benchmark of the machine, quality of a quantisation."""
