"""Training of the miniature family: development only, needs the extra `train` (torch).

`python -m nano.train FOLDER` runs all parts; each is also a command of its own, keeps its state and its
losses in FOLDER (`PART.pt`, `PART.jsonl`) and goes on where it stopped.

    codec      X-Codec: `xcodec` (modules), `losses`
    decoder    X-Codec's decoder again, once the codes are fixed
    coded      the corpus as codes, for the two below
    upsampler  both Vocos: `vocos` (modules)
    stage1     tags and lyrics → codebook 0: `llama` (modules), `songs` (ids and labels)
    stage2     codebook 0 → codebooks 1-7
"""
