// Lyrics as section cards, and as the text that the server reads. The server decides what a label means.

const LABEL = /^\s*\[([^\][]+)\]\s*$/;
const LENGTH = /^\s*#\s*length\s+(\d+(?:\.\d+)?)\s*$/i;

/** Cards of a text: label, lines, and seconds if a line above the label says so. */
export function cardsOf(text) {
  const cards = [];
  let seconds = null;
  for (const line of text.replace(/\r\n?/g, "\n").split("\n")) {
    const label = LABEL.exec(line), length = LENGTH.exec(line);
    if (length) seconds = Number(length[1]);
    else if (label) {
      cards.push({ label: label[1].trim(), lines: "", seconds });
      seconds = null;
    } else {
      if (!cards.length && line.trim()) cards.push({ label: "verse", lines: "", seconds: null });
      if (cards.length) cards.at(-1).lines += `${line}\n`;
    }
  }
  return cards.map((card) => ({ ...card, lines: card.lines.trim() }));
}

export function textOf(cards) {
  return cards.map(({ label, lines, seconds }) =>
    `${seconds ? `#length ${seconds}\n` : ""}[${label}]\n${lines.trim()}`.trim()).join("\n\n");
}

/** Whether a pasted text is several sections rather than some lines. */
export function hasSections(text) {
  return text.split("\n").some((line) => LABEL.test(line));
}

/** A text that begins with a section: lines before its first label are a verse, as they are among cards. */
export function withLabel(text) {
  const first = text.split("\n").find((line) => line.trim() && !line.trim().startsWith("#"))?.trim() ?? "";
  return LABEL.test(first) || /^\(.*\)$|[:：]$/.test(first) ? text : `[verse]\n${text}`;
}
