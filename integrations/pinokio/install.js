// Build llama.cpp for this machine, with its GPU where there is one, and install yuegguf beside it.
const backends = "{{platform === 'darwin' ? '-DGGML_METAL=ON' : gpu === 'nvidia' ? '-DGGML_CUDA=ON' : ''}}"
module.exports = {
  requires: { bundle: "ai" },
  run: [
    {
      method: "shell.run",
      params: {
        venv: "env",
        env: { CMAKE_ARGS: `-DLLAVA_BUILD=OFF ${backends}` },
        message: ["python -m pip install --editable \"../..[serve]\""],
      },
    },
    { method: "notify", params: { html: "Installed. Press Start." } },
  ],
}
