// Remove the program; songs stay in songs/, models in their folder.
module.exports = {
  run: [{ method: "fs.rm", params: { path: "env" } }],
}
