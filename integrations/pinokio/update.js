// Get the newest source, and install what it needs in the same way: llama.cpp may be built again.
const install = require("./install.js")
module.exports = {
  run: [
    { method: "shell.run", params: { message: ["git pull --ff-only"] } },
    install.run[0],
  ],
}
