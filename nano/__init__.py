"""Development only: makes the bundled model family. Not part of the installed package."""
