"use strict";
// Writing: the text, which of it is the model's, and what may come next.

const prompt = $("prompt"), sheet = document.querySelector(".sheet"), form = document.querySelector("form");
let byModel = []; // [start, end) of what the model wrote, in order
let before = ""; // the text when that was last right
let lastWritten = null; // of the last time: {at, length}
let isWriting = false, isAsked = false, isStale = false;

const number = (id) => Number($(id).value);
function settings() {
  return {
    temperature: number("temperature"), topP: number("top-p"), length: number("length"), seed: number("seed"),
    stop: $("stop").value, oneSentence: $("one").checked, logitBias: biases() || [],
    dryMultiplier: number("dry-multiplier"), dryBase: number("dry-base"), dryAllowedLength: number("dry-allowed-length"),
    xtcProbability: number("xtc-probability"), xtcThreshold: number("xtc-threshold"),
  };
}
// "15+1.5, 7-100" as pairs of an id and what is added to its logit; null if it is something else.
function biases() {
  const given = $("logit-bias").value.trim();
  const pairs = given ? given.split(",").map((each) => /^\s*(\d+)\s*([+-]\d*\.?\d+)\s*$/.exec(each)) : [];
  return pairs.every(Boolean) ? pairs.map(([, id, added]) => [Number(id), Number(added)]) : null;
}
function troubleOfBiases() {
  const found = biases();
  if (!found) return "Write 15+1.5, 7-100: a token’s id, and what is added to its logit.";
  if (found.some(([id]) => id >= vocabulary)) return `The ids of the tokens go from 0 to ${vocabulary - 1}.`;
  return found.some(([, added]) => Math.abs(added) > 1e6) ? "At most 1,000,000 can be added." : "";
}

// Ranges of the model's text follow what is typed: they lose what is replaced, and move.
function followEdit() {
  const now = prompt.value;
  let start = 0, same = 0;
  const most = Math.min(now.length, before.length);
  while (start < most && now[start] === before[start]) start++;
  while (same < most - start && now[now.length - 1 - same] === before[before.length - 1 - same]) same++;
  const end = before.length - same, moved = now.length - before.length;
  byModel = byModel.flatMap(([from, to]) => [[from, Math.min(to, start)], [Math.max(from, end) + moved, to + moved]])
    .filter(([from, to]) => to > from);
  before = now;
}
function showMarks() {
  const parts = [];
  let at = 0;
  for (const [from, to] of byModel) {
    parts.push(before.slice(at, from), made("span", "by-model", before.slice(from, to)));
    at = to;
  }
  // A line that is still empty has its height, too.
  $("marks").replaceChildren(...parts, `${before.slice(at)}\n`);
}
function addText(text, at) {
  if (!text) return;
  followEdit();
  prompt.setRangeText(text, at, at, "end");
  byModel = byModel.map(([from, to]) => (from >= at ? [from + text.length, to + text.length] : [from, to]));
  const last = byModel.findLast(([, to]) => to === at);
  if (last) last[1] += text.length;
  else byModel.push([at, at + text.length]);
  byModel.sort(([one], [other]) => one - other);
  before = prompt.value;
}
function textChanged() {
  followEdit();
  showMarks();
  $("clear").disabled = isWriting || !before;
  $("from-write").disabled = !before;
  askNext();
}

// What may come at the cursor; one question at a time.
function askNext() {
  if (!worker || isWriting) return;
  if (isAsked) {
    isStale = true;
    return;
  }
  isAsked = true;
  ask("next", { text: prompt.value.slice(0, prompt.selectionEnd), settings: settings() });
}
heard.next = (answer) => {
  isAsked = false;
  if (isStale) {
    isStale = false;
    askNext();
  }
  if (!isWriting) showChoices(answer);
};

function showChoices({ choices, entropy }) {
  const rows = $("choices").children;
  while (rows.length < choices.length) $("choices").append(choiceRow());
  while (rows.length > choices.length) rows[rows.length - 1].remove();
  choices.forEach(({ id, name, share, drawn, text }, place) => {
    const button = rows[place].firstChild, [own, bar, label, numeral, value] = button.children;
    own.style.width = `${100 * share}%`;
    bar.style.width = `${100 * drawn}%`;
    label.textContent = visible(name, id);
    numeral.textContent = `id ${id}`;
    value.textContent = percent(drawn);
    button.classList.toggle("special", id < 2);
    button.dataset.text = text;
    button.disabled = !text;
    button.title = drawn === share ? "" : `${percent(share)} of the model itself`;
  });
  $("uncertainty").textContent = `Entropy ${entropy.toFixed(2)} bits, as of ${(2 ** entropy).toFixed(1)} equal choices`;
}
function choiceRow() {
  const row = made("li"), button = made("button");
  button.type = "button";
  button.append(made("span", "own"), made("span", "drawn"), made("bdi"), made("span", "id"), made("span", "value"));
  button.addEventListener("click", () => {
    if (isWriting) return;
    const at = prompt.selectionEnd;
    addText(button.dataset.text, at);
    prompt.setSelectionRange(at + button.dataset.text.length, at + button.dataset.text.length);
    textChanged();
    scrollToEnd();
  });
  row.append(button);
  return row;
}

function scrollToEnd() {
  sheet.scrollTop = sheet.scrollHeight;
}

// Writing
function start() {
  if (!form.checkValidity()) {
    if (form.querySelector("details :invalid")) $("advanced").open = true;
    return form.reportValidity();
  }
  const chosen = settings();
  isWriting = true;
  lastWritten = { at: prompt.value.length, length: 0 };
  prompt.readOnly = true;
  $("go").textContent = "Stop";
  $("undo").disabled = $("clear").disabled = true;
  $("status").textContent = "Writing";
  ask("write", { text: prompt.value, settings: chosen, pace: number("pace") });
  return true;
}
const REASONS = { length: "", eos: ", to its end", stop: ", up to the text to stop before", halted: ", stopped", full: ", the page is full" };
heard.write = ({ text, tokens, choices, entropy, done, seconds, characters }) => {
  const isAtEnd = sheet.scrollHeight - sheet.scrollTop - sheet.clientHeight < 40;
  const room = prompt.maxLength - prompt.value.length;
  addText(text.slice(0, room), prompt.value.length);
  lastWritten.length = prompt.value.length - lastWritten.at;
  showMarks();
  if (isAtEnd) scrollToEnd();
  if (text.length > room && !done) ask("halt");
  if (choices) showChoices({ choices, entropy });
  if (!done) return;
  isWriting = prompt.readOnly = false;
  const isFull = prompt.value.length >= prompt.maxLength, isFast = number("pace") === 0 && seconds > 0.02;
  const speed = isFast ? `, ${count(Math.round(characters / seconds))} characters per second` : "";
  $("status").textContent = `${count(tokens)} tokens${REASONS[isFull ? "full" : done]}, seed ${number("seed")}${speed}`;
  $("go").textContent = "Write on";
  $("undo").disabled = !lastWritten.length;
  if ($("fresh").checked) $("seed").value = Math.floor(Math.random() * 1e6);
  prompt.setSelectionRange(prompt.value.length, prompt.value.length);
  textChanged();
};

$("go").addEventListener("click", () => (isWriting ? ask("halt") : start()));
$("undo").addEventListener("click", () => {
  prompt.setRangeText("", lastWritten.at, lastWritten.at + lastWritten.length, "end");
  $("undo").disabled = true;
  $("status").textContent = "Taken back";
  textChanged();
  prompt.focus();
});
$("clear").addEventListener("click", () => {
  prompt.value = "";
  $("undo").disabled = true;
  $("go").textContent = "Write";
  $("status").textContent = "";
  textChanged();
  prompt.focus();
});
prompt.addEventListener("input", () => {
  $("undo").disabled = true; // what was written may be elsewhere now
  textChanged();
});
let caret = -1;
document.addEventListener("selectionchange", () => {
  if (document.activeElement !== prompt || caret === prompt.selectionEnd) return;
  caret = prompt.selectionEnd;
  askNext();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && isWriting) ask("halt");
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || $("go").disabled) return;
  event.preventDefault();
  $("go").click();
});
const CAN_BE_OFF = ["dry-multiplier", "xtc-probability"];
form.addEventListener("input", ({ target: { id } }) => {
  if (id === "logit-bias") $(id).setCustomValidity(troubleOfBiases());
  const value = $(`${id}-value`);
  if (value) value.textContent = number(id) || !CAN_BE_OFF.includes(id) ? number(id) : "off";
  askNext();
});
form.addEventListener("submit", (event) => event.preventDefault());
