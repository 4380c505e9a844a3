// Serve on a free port of this machine; the link that is printed opens the page.
module.exports = {
  daemon: true,
  run: [
    {
      method: "shell.run",
      params: {
        venv: "env",
        message: ["yuegguf serve --port {{port}} --songs songs"],
        on: [{ event: "/http:\\/\\/[0-9.:]+\\//", done: true }],
      },
    },
    { method: "local.set", params: { url: "{{input.event[0]}}" } },
  ],
}
