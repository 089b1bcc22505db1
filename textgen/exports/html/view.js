"use strict";
// The page itself: it asks the worker and shows what it answers. Text becomes a node of text,
// never markup.

const $ = (id) => document.getElementById(id);
const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const count = (number) => number.toLocaleString("en");

function percent(share) {
  if (share === 0 || share >= 1e-4) return `${(100 * share).toLocaleString("en", { maximumSignificantDigits: 3 })} %`;
  const [factor, power] = share.toExponential(1).split("e-");
  return `${factor} · 10⁻${power.replace(/\d/g, (digit) => SUPERSCRIPTS[digit])}`;
}

// A token so that it is seen: "the␣"; what has no shape of its own by its code.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\u00ad\u115f\u1160\u3164\ufe00-\ufe0f]|(?! )\p{Zs}/gu;
const seen = new Map(); // likely tokens recur often
function visible(name, id) {
  if (id === 1) return "⏎ end";
  if (id === 0) return "unknown";
  if (!seen.has(name)) {
    const coded = name.replaceAll("\n", "⏎").replace(HIDDEN, (one) => `\\u{${one.codePointAt().toString(16)}}`);
    seen.set(name, coded.replaceAll(" ", "␣"));
  }
  return seen.get(name);
}

function made(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function trouble(why) {
  $("trouble").textContent = why;
  $("trouble").hidden = false;
  for (const id of ["go", "undo", "clear", "colour", "from-write"]) $(id).disabled = true;
}

// The worker: ask(kind, question) is followed by calls of heard[kind](answer).
const heard = {
  failed({ of, why }) {
    trouble(of === "open" ? `The model in this page is damaged or cannot be opened (${why}): get the file again.` : `Something went wrong: ${why}.`);
  },
};
let worker = null;
const ask = (kind, question = {}) => worker.postMessage({ kind, ...question });

async function openModel() {
  const packed = (id) => [$(id).textContent, Number($(id).dataset.bytes)];
  if (typeof Worker === "undefined") return trouble("This browser has no web workers, in which the model would run: use a current one.");
  if (typeof DecompressionStream === "undefined") return trouble("This browser is too old: it has no DecompressionStream.");
  let program;
  try {
    program = await unpacked(...packed("engine"));
  } catch {
    return trouble("The program in this page is damaged: get the file again.");
  }
  try {
    worker = new Worker(URL.createObjectURL(new Blob([program], { type: "text/javascript" })));
  } catch (error) {
    return trouble(`This browser does not start the model: ${error.message}.`);
  }
  worker.onerror = (event) => {
    event.preventDefault();
    trouble(`This browser does not run the model: ${event.message || "it refuses a worker"}.`);
  };
  worker.onmessage = ({ data }) => heard[data.kind](data);
  const [characters, bytes] = packed("weights");
  ask("open", { characters, bytes, breakers: JSON.parse(document.documentElement.dataset.breakers) });
  $("weights").remove(); // the page needs it no more
}

let vocabulary = 0;
heard.open = (model) => {
  vocabulary = model.vocabulary;
  $("trouble").hidden = true;
  $("go").disabled = $("colour").disabled = false;
  document.documentElement.dataset.open = "";
  textChanged();
};

// Tabs
const tabs = [...document.querySelectorAll("[role=tab]")];
function showTab(tab, { focus = false } = {}) {
  for (const each of tabs) {
    each.setAttribute("aria-selected", String(each === tab));
    each.tabIndex = each === tab ? 0 : -1;
    $(each.getAttribute("aria-controls")).hidden = each !== tab;
  }
  if (focus) tab.focus();
}
for (const tab of tabs) {
  tab.addEventListener("click", () => showTab(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -tabs.indexOf(tab), End: tabs.length - 1 - tabs.indexOf(tab) }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    showTab(tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length], { focus: true });
  });
}
