"use strict";
// The head of the page, and what all parts use.
// Dialogues are strangers' text, so everything becomes text nodes, never HTML.

const report = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("filters");
const list = document.getElementById("pairs");
const SIDES = ["negative", "positive"]; // by class; what they are called is in `words`
const WORDS = report.words;
const PLACE = report.place; // what pairs are grouped by: a scenario, or a task
const AFTER = "after the segment: not trained on";

function el(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "style") for (const [key, to] of Object.entries(value)) node.style.setProperty(key, to);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  const given = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== "");
  node.append(...given.map((child) => (typeof child === "string" ? visible(child) : child)));
  return node;
}

// Controls and orders of direction, which any dialogue may hold, written out; as text.py has it, but for the end of a
// line of Windows, which does nothing here.
const visible = (text) =>
  text.replace(
    /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
const number = (value) =>
  value === null || value === undefined ? "–" : String(Math.round(value * 100) / 100).replace("-", "−");
const signed = (value) => (value > 0 ? "+" : "") + number(value);
const percent = (share) => (share > 0 && share < 0.005 ? "< 1 %" : `${Math.round(share * 100)} %`);
const capital = (text) => text[0].toUpperCase() + text.slice(1);
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

function showTotals() {
  const tile = (label, value) => el("div", {}, el("dt", {}, label), el("dd", {}, value));
  const counted = (count, word) => tile(count === 1 ? word : `${word}s`, count.toLocaleString("en"));
  const tiles = [counted(report.pairs.length, "pair")];
  if (report.scenarios.length) tiles.push(counted(report.scenarios.length, PLACE));
  if (report.by_state) tiles.push(tile("matched by state", report.by_state.toLocaleString("en")));
  for (const name of report.outcomes) {
    const means = report.means[name];
    if (!means) continue;
    const shown = means.map((mean) => mean.toFixed(2).replace("-", "−"));
    tiles.push(tile(`mean ${name}, ${WORDS.sides.join(" → ")}`, shown.join(" → ")));
  }
  document.getElementById("totals").append(...tiles);
}

function chart({ title, note, bars }) {
  const total = bars.reduce((sum, bar) => sum + bar.height, 0);
  const share = (bar) => (total ? bar.height / total : 0);
  const largest = Math.max(0.01, ...bars.map((bar) => Math.max(share(bar), bar.published ?? 0)));
  const isCompared = bars.some((bar) => bar.published !== null);
  const rows = bars.map((bar) => {
    const marks = [el("i", { style: { width: `${(share(bar) / largest) * 100}%` } })];
    if (bar.published !== null) marks.push(el("b", { style: { left: `${(bar.published / largest) * 100}%` } }));
    const published = isCompared ? el("td", {}, bar.published === null ? "–" : percent(bar.published)) : null;
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, bar.label),
      el("td", { class: "track", "aria-hidden": "true" }, el("div", {}, marks)),
      el("td", {}, bar.height.toLocaleString("en")),
      el("td", {}, percent(share(bar))),
      published,
    );
  });
  const heads = ["", "", "pairs", "share"].map((text) => el("th", text ? { scope: "col" } : {}, text));
  if (isCompared) heads.push(el("th", { scope: "col", class: "published" }, "published"));
  return el(
    "div",
    { class: "chart" },
    el(
      "table",
      {},
      el("caption", {}, title, note ? el("small", {}, note) : null),
      el("thead", {}, el("tr", {}, heads)),
      el("tbody", {}, rows),
    ),
  );
}

function showLegend() {
  const has = (test) => report.pairs.some(test);
  const keys = [
    ["agent", WORDS.agent],
    ["partner", "partner"],
  ];
  if (has((pair) => pair.location !== null)) keys.push(["located", "located turn of the negative"]);
  if (has((pair) => pair.segments.some(Boolean))) keys.push(["segment", "segment"]);
  if (has((pair) => pair.segments.some((segment, side) => segment && segment[1] < pair.lengths[side])))
    keys.push(["after", AFTER]);
  const hint = el("span", { class: "hint" }, `Keys: j next pair, k previous, / search${WORDS.are_pairs ? ", f flag" : ""}`);
  document
    .getElementById("legend")
    .append(...keys.map(([name, text]) => el("span", {}, el("i", { class: `key ${name}` }), text)), hint);
}
