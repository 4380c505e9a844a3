"""YuE lyrics-to-song without PyTorch."""

__version__ = "0.1.0"
