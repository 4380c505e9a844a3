// The menu of yuegguf in Pinokio: install, start, open, update, reset.
module.exports = {
  version: "3.7",
  title: "yuegguf",
  description: "Songs with stems from tags and lyrics, on the CPU, CUDA or Metal",
  icon: "icon.svg",
  menu: async (kernel, info) => {
    if (info.running("install.js")) return [{ default: true, text: "Installing", href: "install.js" }]
    if (info.running("update.js")) return [{ default: true, text: "Updating", href: "update.js" }]
    if (info.running("reset.js")) return [{ default: true, text: "Resetting", href: "reset.js" }]
    if (!info.exists("env")) return [{ default: true, text: "Install", href: "install.js" }]
    if (info.running("start.js")) {
      const local = info.local("start.js")
      const terminal = { text: "Terminal", href: "start.js" }
      return local && local.url
        ? [{ default: true, text: "Open the page", href: local.url }, terminal]
        : [{ ...terminal, default: true }]
    }
    return [
      { default: true, text: "Start", href: "start.js" },
      { text: "Update", href: "update.js" },
      { text: "Install again", href: "install.js" },
      { text: "Reset", href: "reset.js", confirm: "Remove the program? Songs and models are kept." },
    ]
  },
}
