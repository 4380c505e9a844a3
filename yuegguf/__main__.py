"""`python -m yuegguf`."""

from yuegguf.cli import main

if __name__ == "__main__":
    main()
