// Get the newest source, and install what it needs.
module.exports = {
  run: [
    { method: "shell.run", params: { message: ["git pull --ff-only"] } },
    { method: "shell.run", params: { venv: "env", message: ["python -m pip install --editable \"../..[serve]\""] } },
  ],
}
