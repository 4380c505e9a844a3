"""Train the miniature family on `nano.corpus` (PyTorch; development only, extra `train`).

Each step is a command of its own, resumes where it stopped, and writes the published checkpoint layout:

    python -m nano.train.codec FOLDER        X-Codec               → FOLDER/codec/final_ckpt/ckpt_00360000.pth
"""
