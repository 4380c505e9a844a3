"""The language-model engine: the protocol and its llama.cpp implementation."""
