"""Evaluation of the trained family: songs generated through `yuegguf` from requests, and measured.

    python -m nano.evaluate FOLDER            the bundled family on 40 held-out requests
    python -m nano.evaluate FOLDER --count 8  eight requests

`requests` draws what is asked, `songs` generates and measures songs, `coding` the codec, `agreement` compares
quantised files with F16, `report` prints the targets.
"""
