"use strict";
// Reading: a text as a heat map of its surprisal. It is made as a page of scores has it, whose
// script (presentation/html/page.js) then shows the figures of a part.

const EDGES_BITS = JSON.parse(document.documentElement.dataset.edges);
const text = $("text");
let totals = null, lines = 0;

function startReading() {
  totals = { bits: 0, tokens: 0, unknown: 0, characters: 0 };
  lines = 0;
  text.querySelectorAll("article").forEach((article) => article.remove());
  $("details").hidden = true;
  $("hint").hidden = false;
  $("read-status").textContent = "Reading";
  ask("score", { text: $("pasted").value });
}
heard.score = ({ sentences, done }) => {
  text.append(...sentences.map(article));
  $("scores").hidden = !lines;
  if (!done) return;
  showTotals();
  $("read-status").textContent = lines ? "" : "There is no text to colour.";
};

function article({ characters, parts }) {
  const its = made("article"), number = made("h3"), box = made("div", "of"), per = made("data");
  lines += 1;
  number.append(made("span", "unseen", "Sentence "), String(lines));
  const attributes = { role: "listbox", "aria-orientation": "horizontal", "aria-label": `Sentence ${lines}`, lang: "", dir: "auto", translate: "no" };
  for (const [name, value] of Object.entries(attributes)) box.setAttribute(name, value);
  const bits = parts.reduce((sum, part) => sum + part.surprisal, 0);
  totals.bits += bits;
  totals.tokens += parts.reduce((sum, part) => sum + part.tokens, 0);
  totals.unknown += parts.filter((part) => part.unknown).length;
  totals.characters += characters;
  const perCharacter = (bits / characters).toFixed(2);
  const perplexity = 2 ** (bits / parts.reduce((sum, part) => sum + part.tokens, 0));
  box.dataset.all = JSON.stringify({
    sums: `ln p ${(-bits * Math.LN2).toFixed(2)}, perplexity ${perplexity.toPrecision(4)}, ${perCharacter} bits per character`,
    parts: parts.map((part, place) => row(part, parts[place - 1])),
  });
  parts.forEach((part, place) => box.append(...partNodes(part, place === 0)));
  per.value = per.textContent = perCharacter;
  per.title = "bits per character";
  its.append(number, box, per);
  return its;
}
function row({ id, surprisal, rank, entropy, choices, tokens }, before) {
  const reduction = before ? Math.max(0, before.entropy - entropy) : 0;
  const named = choices.flatMap((each) => [visible(each.name, each.id), each.share]);
  const self = choices.findIndex((each) => each.id === id);
  return [surprisal, rank, entropy, reduction, tokens, self < 0 ? null : self, named];
}
// A part of the text. White space around it is outside of it, unless it is all there is.
function partNodes({ text: whole, surprisal, rank, ends, unknown, id }, isFirst) {
  const core = ends ? "" : whole.replace(/^[ \n\t]+|[ \n\t]+$/g, "") || whole;
  const at = ends ? whole.length : whole.indexOf(core), bits = surprisal.toFixed(1);
  const part = made("span", `h${EDGES_BITS.filter((edge) => surprisal >= edge).length}`);
  part.classList.toggle("u", unknown);
  part.classList.toggle("e", ends);
  part.classList.toggle("l", core.includes("\n") && !core.trim());
  part.setAttribute("role", "option");
  part.setAttribute("aria-selected", "false");
  if (ends) part.setAttribute("aria-label", "end of sentence");
  else if (!core.trim()) part.setAttribute("aria-label", visible(core, id));
  if (isFirst) part.tabIndex = 0;
  part.dataset.s = bits;
  part.title = `${bits} bits, rank ${rank}${unknown ? ", unknown" : ""}`;
  part.append(...visibleNodes(core));
  return [whole.slice(0, at), part, whole.slice(at + core.length)];
}
// What would not be seen is written by its code.
function visibleNodes(core) {
  return core.split(/([\p{Cc}\p{Zl}\p{Zp}\p{Cs}\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff])/u)
    .map((each, place) => (place % 2 && each !== "\n" && each !== "\t" ? made("i", "", visible(each)) : each));
}

function showTotals() {
  const tiles = [
    ["Bits per character", (totals.bits / totals.characters).toFixed(3), `${count(totals.characters)} characters`],
    ["Perplexity per token", (2 ** (totals.bits / totals.tokens)).toPrecision(4), `${count(totals.tokens)} tokens`],
    ["Log-probability, ln", (-totals.bits * Math.LN2).toFixed(2), `${count(lines)} sentence${lines === 1 ? "" : "s"}`],
    ["Unknown", count(totals.unknown), "of the tokens"],
  ];
  $("totals").replaceChildren(...tiles.map(([name, value, more]) => {
    const tile = made("div"), figure = made("dd", "", `${value} `);
    figure.append(made("small", "", more));
    tile.append(made("dt", "", name), figure);
    return tile;
  }));
}

$("colour").addEventListener("click", startReading);
$("from-write").addEventListener("click", () => {
  $("pasted").value = prompt.value;
  startReading();
});
openModel();
