"use strict";
// Each sentence has as JSON what its spans do not contain: its sums, and one row per part: surprisal,
// rank, entropy, entropy reduction, tokens, which alternative it is itself, and the alternatives as
// name, probability, name, probability...
(() => {
  const $ = (id) => document.getElementById(id);
  const text = $("text"), panel = $("panel"), curve = $("curve"), svg = curve.firstChild;
  const read = new WeakMap();
  let chosen = null, drawn = null, tallest = 0;

  const boxOf = (part) => part.parentElement;
  const partAt = (node) => (node instanceof Element ? node.closest(".of > span") : null);
  const index = (part) => Array.prototype.indexOf.call(boxOf(part).children, part);
  const rightToLeft = (box) => getComputedStyle(box).direction === "rtl";

  function known(box) {
    if (!read.has(box)) read.set(box, JSON.parse(box.dataset.all));
    return read.get(box);
  }
  function digits(value, most) {
    return value.toLocaleString("en", { maximumSignificantDigits: most });
  }
  function percent(p) {
    if (p === 0 || p >= 1e-6) return `${digits(100 * p, 3)} %`;
    const [factor, power] = p.toExponential(1).split("e-");
    return `${factor} · 10⁻${power.replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit])}`;
  }
  const bits = (value) => (value === null ? "∞ bits" : `${value.toFixed(2)} bits`);
  const labelOf = (id) => $(id).firstElementChild.textContent;
  const nameOf = (part) => part.getAttribute("aria-label") || part.textContent;

  function show(part) {
    const box = boxOf(part), place = index(part), { sums, parts } = known(box);
    const [surprisal, rank, entropy, reduction, tokens, self, alternatives] = parts[place];
    const probability = surprisal === null ? 0 : 2 ** -surprisal;
    $("hint").hidden = true;
    $("details").hidden = false;
    $("name").firstChild.textContent = nameOf(part);
    $("name").lastChild.textContent = [
      part.classList.contains("u") ? "unknown" : "", tokens > 1 ? `${tokens} tokens` : "",
    ].filter(Boolean).join(", ");
    $("surprisal").textContent = bits(surprisal);
    $("probability").textContent = percent(probability);
    $("ranked").hidden = rank === null;
    if (rank !== null) $("rank").textContent = rank.toLocaleString("en");
    $("expected").hidden = entropy === null;
    if (entropy !== null) $("entropy").textContent = bits(entropy);
    $("reduced").hidden = !reduction;
    if (reduction) $("reduction").textContent = bits(reduction);
    $("sums").textContent = sums;
    showAlternatives(alternatives, self);
    draw(box, parts);
    mark(part, place, parts);
    // A title would cover the text under the pointer; the panel shows more.
    if (part.title) {
      part.setAttribute("aria-description", part.title);
      part.removeAttribute("title");
    }
  }
  function showAlternatives(alternatives, self) {
    $("likelier").hidden = !alternatives.length;
    const rows = [];
    for (let i = 0; i < alternatives.length; i += 2) {
      const row = document.createElement("li"), name = document.createElement("bdi");
      const value = document.createElement("span"), bar = document.createElement("span");
      name.textContent = alternatives[i];
      value.textContent = percent(alternatives[i + 1]);
      bar.className = "bar";
      bar.style.width = `${Math.min(100, 100 * alternatives[i + 1])}%`;
      if (i / 2 === self) row.className = "it";
      row.append(bar, name, value);
      rows.push(row);
    }
    $("alternatives").replaceChildren(...rows);
  }
  // For screen readers only: announces the part that has the focus.
  function announce(part) {
    const [surprisal, rank, , , , , alternatives] = known(boxOf(part)).parts[index(part)];
    const others = alternatives.filter((_, i) => i % 2 === 0).join(", ");
    $("announcement").textContent = `${bits(surprisal)}${rank === null ? "" : `, ${labelOf("ranked").toLowerCase()} ${rank}`}${others ? `. ${labelOf("likelier")}: ${others}` : ""}`;
  }

  // The curve: a hundred units high; where there are more parts than it has points, the highest.
  const SPAN = 600, HIGH = 100;
  function across(place, count) {
    return rightToLeft(drawn) ? SPAN - ((place + 0.5) / count) * SPAN : ((place + 0.5) / count) * SPAN;
  }
  function up(value) {
    return HIGH - (Math.min(value === null ? Infinity : value, tallest) / tallest) * HIGH;
  }
  function draw(box, parts) {
    if (box === drawn) return;
    drawn = box;
    const all = parts.map((row) => row[0]).filter((value) => value !== null);
    tallest = Math.max(4, Math.ceil(all.reduce((most, value) => Math.max(most, value), 0) / 2) * 2);
    const step = Math.ceil(parts.length / SPAN), points = [];
    for (let i = 0; i < parts.length; i += step) {
      let best = i;
      for (let j = i; j < Math.min(i + step, parts.length); j++) if (up(parts[j][0]) < up(parts[best][0])) best = j;
      points.push(best);
    }
    const at = (i, value) => `${across(i, parts.length).toFixed(2)} ${up(value).toFixed(2)}`;
    const path = (name, d) => svg.querySelector(name).setAttribute("d", d);
    const expected = points.filter((i) => parts[i][2] !== null);
    svg.setAttribute("viewBox", `0 0 ${SPAN} ${HIGH}`);
    path(".grid", `M0 0H${SPAN}M0 ${HIGH / 2}H${SPAN}M0 ${HIGH}H${SPAN}`);
    path(".line", points.map((i, n) => (n ? "L" : "M") + at(i, parts[i][0])).join(""));
    path(".dots", points.length > 80 ? "" : points.map((i) => `M${at(i, parts[i][0])}h0`).join(""));
    path(".entropy", expected.map((i, n) => (n ? "L" : "M") + at(i, parts[i][2])).join(""));
    curve.querySelector(".top").textContent = tallest;
    curve.setAttribute("aria-valuemax", parts.length);
    document.querySelector(".keys .entropy").hidden = !expected.length;
    $("curve-name").textContent = `${box.getAttribute("aria-label")}, part by part, bits`;
  }
  function mark(part, place, parts) {
    const x = across(place, parts.length).toFixed(2);
    svg.querySelector(".at").setAttribute("d", `M${x} 0V${HIGH}`);
    svg.querySelector(".spot").setAttribute("d", `M${x} ${up(parts[place][0]).toFixed(2)}h0`);
    curve.setAttribute("aria-valuenow", place + 1);
    curve.setAttribute("aria-valuetext", `${nameOf(part)}: ${bits(parts[place][0])}`);
  }

  function choose(part, { focus }) {
    if (!part) return;
    if (chosen) {
      chosen.classList.remove("on");
      chosen.setAttribute("aria-selected", "false");
    }
    const stop = boxOf(part).querySelector('[tabindex="0"]');
    if (stop !== part) {
      if (stop) stop.removeAttribute("tabindex");
      part.tabIndex = 0;
    }
    part.classList.add("on");
    part.setAttribute("aria-selected", "true");
    chosen = part;
    show(part);
    if (focus) part.focus();
    else part.scrollIntoView({ block: "nearest" });
  }
  function neighbour(part, key) {
    const box = boxOf(part), forward = rightToLeft(box) ? "ArrowLeft" : "ArrowRight";
    const beside = (article) => article && article.querySelector('.of > [tabindex="0"]');
    switch (key) {
      case "ArrowRight": case "ArrowLeft": return key === forward ? part.nextElementSibling : part.previousElementSibling;
      case "Home": return box.firstElementChild;
      case "End": return box.lastElementChild;
      case "ArrowDown": return beside(box.parentElement.nextElementSibling);
      case "ArrowUp": return beside(box.parentElement.previousElementSibling);
      default: return undefined;
    }
  }
  const plain = (event) => !(event.altKey || event.ctrlKey || event.metaKey || event.shiftKey);

  text.addEventListener("pointerover", (event) => {
    const part = partAt(event.target);
    if (part && event.pointerType !== "touch") show(part);
  });
  text.addEventListener("pointerleave", () => chosen && show(chosen));
  text.addEventListener("click", (event) => {
    if (getSelection().isCollapsed) choose(partAt(event.target), { focus: true });
  });
  text.addEventListener("focusin", (event) => {
    const part = partAt(event.target);
    if (!part) return;
    if (part !== chosen) choose(part, { focus: false });
    announce(part);
  });
  text.addEventListener("keydown", (event) => {
    const part = partAt(event.target), next = part && plain(event) && neighbour(part, event.key);
    if (next === undefined || !part || !plain(event)) return;
    event.preventDefault();
    choose(next, { focus: true });
  });

  function along(event) {
    const area = svg.getBoundingClientRect(), count = drawn.children.length;
    let place = Math.floor(((event.clientX - area.left) / area.width) * count);
    if (rightToLeft(drawn)) place = count - 1 - place;
    choose(drawn.children[Math.max(0, Math.min(count - 1, place))], { focus: false });
  }
  curve.addEventListener("pointerdown", (event) => {
    curve.setPointerCapture(event.pointerId);
    along(event);
  });
  curve.addEventListener("pointermove", (event) => event.buttons && along(event));
  // The curve is of the last sentence shown, which may only have been pointed at.
  curve.addEventListener("focus", () => {
    if (!chosen || boxOf(chosen) !== drawn) choose(drawn.querySelector('[tabindex="0"]'), { focus: false });
  });
  curve.addEventListener("keydown", (event) => {
    const count = drawn.children.length, place = index(chosen), turned = rightToLeft(drawn) ? -1 : 1;
    const moved = {
      ArrowRight: place + turned, ArrowLeft: place - turned, ArrowUp: place + 1, ArrowDown: place - 1,
      PageUp: place + 10, PageDown: place - 10, Home: 0, End: count - 1,
    }[event.key];
    if (moved === undefined || !plain(event)) return;
    event.preventDefault();
    choose(drawn.children[Math.max(0, Math.min(count - 1, moved))], { focus: false });
  });

  function close() {
    $("details").hidden = true;
    $("hint").hidden = false;
    if (chosen) chosen.focus({ preventScroll: true });
  }
  $("close").addEventListener("click", close);
  document.addEventListener("keydown", (event) => event.key === "Escape" && !$("details").hidden && close());

  document.documentElement.classList.add("js");
  panel.hidden = false;
})();
