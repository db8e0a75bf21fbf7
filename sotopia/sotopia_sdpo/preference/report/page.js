"use strict";
// Shows the data of the page. Dialogues are strangers' text, so everything becomes text nodes, never HTML.

const report = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("filters");
const list = document.getElementById("pairs");
const SIDES = ["negative", "positive"];
const SCORES = ["goal", "relationship"];
const RENDER_AHEAD = "1200px";
const TYPING_MS = 120;
const NARROW = "(max-width: 46rem)";

function el(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "style") for (const [key, to] of Object.entries(value)) node.style.setProperty(key, to);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

const number = (value) => (value === null || value === undefined ? "–" : String(Math.round(value * 100) / 100).replace("-", "−"));
const signed = (value) => (value > 0 ? "+" : "") + number(value);
const percent = (share) => (share > 0 && share < 0.005 ? "< 1 %" : `${Math.round(share * 100)} %`);
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

// ---- head

function showTotals() {
  const tile = (label, value, ...more) => el("div", {}, el("dt", {}, label), el("dd", {}, value, ...more));
  const tiles = [tile(report.pairs.length === 1 ? "pair" : "pairs", report.pairs.length.toLocaleString("en"))];
  if (report.scenarios.length) {
    tiles.push(tile(report.scenarios.length === 1 ? "scenario" : "scenarios", report.scenarios.length.toLocaleString("en")));
  }
  for (const score of SCORES) {
    const means = report.means[score];
    if (!means) continue;
    const gain = el("small", {}, ` ${signed(means[1] - means[0])}`);
    tiles.push(tile(`mean ${score}, negative → positive`, means.map((mean) => mean.toFixed(2).replace("-", "−")).join(" → "), gain));
  }
  document.getElementById("totals").append(...tiles);
}

function chart({ title, note, bars }) {
  const total = bars.reduce((sum, bar) => sum + bar.count, 0);
  const share = (bar) => (total ? bar.count / total : 0);
  const largest = Math.max(0.01, ...bars.map((bar) => Math.max(share(bar), bar.published ?? 0)));
  const isCompared = bars.some((bar) => bar.published !== null);
  const rows = bars.map((bar) => {
    const marks = [el("i", { style: { width: `${(share(bar) / largest) * 100}%` } })];
    if (bar.published !== null) marks.push(el("b", { style: { left: `${(bar.published / largest) * 100}%` } }));
    const published = isCompared ? el("td", {}, bar.published === null ? "–" : percent(bar.published)) : null;
    return el("tr", {}, el("th", { scope: "row" }, bar.label), el("td", { class: "track", "aria-hidden": "true" }, el("div", {}, marks)),
      el("td", {}, bar.count.toLocaleString("en")), el("td", {}, percent(share(bar))), published);
  });
  const heads = ["", "", "pairs", "share"].map((text) => el("th", text ? { scope: "col" } : {}, text));
  if (isCompared) heads.push(el("th", { scope: "col", class: "published" }, "published"));
  return el("div", { class: "chart" }, el("table", {}, el("caption", {}, title, note ? el("small", {}, note) : null),
    el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows)));
}

function showLegend() {
  const has = (test) => report.pairs.some(test);
  const keys = [["agent", "agent (trained)"], ["partner", "partner"]];
  if (has((pair) => pair.location !== null)) keys.push(["located", "located turn of the negative"]);
  if (has((pair) => pair.segments.some(Boolean))) keys.push(["segment", "segment"], ["after", "after the segment: not trained on"]);
  const hint = el("span", { class: "hint" }, "Keys: j next pair, k previous, / search");
  document.getElementById("legend").append(...keys.map(([name, text]) => el("span", {}, el("i", { class: `key ${name}` }), text)), hint);
}

// ---- a pair

function turnNode(pair, side, [index, who, kind, text], row) {
  const segment = side === null ? null : pair.segments[side];
  const isLocated = side !== 1 && index === pair.location;
  const isIn = segment && index >= segment[0] && index < segment[1];
  const isAfter = segment && index >= segment[1];
  const name = who === "system" ? "System" : pair.names[who === "agent" ? 0 : 1];
  const tags = [name && who !== "system" ? el("small", {}, who) : null];
  if (isLocated) tags.push(el("span", { class: "tag located" }, "◆ located turn"));
  if (isIn && index === segment[0]) tags.push(el("span", { class: "tag segment" }, `segment of ${segment[1] - segment[0]}`));
  const classes = ["turn", who, isLocated && "is-located", isIn && "in-segment", isAfter && "is-after"];
  return el("div", { class: classes.filter(Boolean).join(" "), style: { "--row": row } },
    el("span", { class: "index", title: `Turn ${index}` }, String(index)),
    el("div", { class: "bubble" }, el("div", { class: "name" }, name || who[0].toUpperCase() + who.slice(1), tags), saidNode(kind, text)));
}

function saidNode(kind, text) {
  if (kind === "speak") return el("div", { class: "said", dir: "auto" }, text);
  if (kind === "text") return el("div", { class: "said plain", dir: "auto" }, text);
  if (kind === "leave") return el("div", { class: "said note" }, "leaves the conversation", text ? `: ${text}` : "");
  if (kind === "none") return el("div", { class: "said note" }, "does nothing", text ? `: ${text}` : "");
  const label = kind === "action" ? null : el("small", {}, `[${kind}] `);
  return el("div", { class: "said", dir: "auto" }, label, el("em", {}, text));
}

function sideNode(pair, side) {
  const name = SIDES[side];
  const known = SCORES.filter((score) => pair.scores[score][side] !== null);
  const scores = known.map((score) => `${score} ${number(pair.scores[score][side])}`).join(", ");
  const segment = pair.segments[side];
  const nodes = [];
  let row = 2;
  for (const line of pair.sides[side]) {
    if (segment && line[0] >= segment[1] && !nodes.some((node) => node.className === "after")) {
      nodes.push(el("div", { class: "after", style: { "--row": row++ } }, "after the segment: not trained on"));
    }
    nodes.push(turnNode(pair, side, line, row++));
  }
  if (!nodes.length) nodes.push(el("div", { class: "after", style: { "--row": row } }, "nothing that the other side has not"));
  return el("section", { class: `side ${name}`, "aria-label": name },
    el("h3", {}, name[0].toUpperCase() + name.slice(1), scores ? el("small", {}, scores) : null), nodes);
}

function historyNode(pair) {
  const isLocatedHere = pair.shared.some(([index]) => index === pair.location);
  const parts = [pair.background && "background", pair.shared.length && plural(pair.shared.length, "turn")].filter(Boolean);
  if (!parts.length) return null;
  const label = `Shared history: ${parts.join(" and ")}${isLocatedHere ? ", with the located turn" : ""}`;
  const content = [pair.background ? el("div", { class: "background", tabindex: "0", dir: "auto" }, pair.background) : null];
  return el("details", { class: "fold" }, el("summary", {}, label), content, pair.shared.map((line) => turnNode(pair, null, line, "auto")));
}

function provenanceNode(pair) {
  const facts = [["pair", pair.id && el("a", { href: `#${new URLSearchParams({ text: pair.id })}`, title: "Show this pair alone" }, pair.id)],
    ["negative episode", pair.episodes[0]], ["positive episode", pair.episodes[1]], ["scenario", pair.env],
    ["agents", pair.agents && pair.agents.map((agent, at) => (at === pair.position ? `${agent} (the agent)` : agent)).join(", ")],
    ["agent position", pair.position], ["located turn", pair.location], ["segments", segmentText(pair)],
    ["records", `${2 * pair.at} and ${2 * pair.at + 1}`]];
  const known = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("details", { class: "fold" }, el("summary", {}, "Where it comes from"),
    el("dl", { class: "facts" }, known.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value.nodeType ? value : String(value))])));
}

function segmentText(pair) {
  const texts = pair.segments.map((segment) => segment && `[${segment[0]}, ${segment[1]})`);
  return texts[0] === texts[1] ? texts[0] : `negative ${texts[0] ?? "none"}, positive ${texts[1] ?? "none"}`;
}

function gainNode(pair, score) {
  const gain = pair.gains[score];
  if (gain === null) return null;
  const [from, to] = pair.scores[score];
  const both = from === null || to === null ? "" : ` ${number(from)} → ${number(to)}`;
  return el("span", { class: "gain" }, `${score}${both} `, el("b", { class: gain > 0 ? "up" : gain < 0 ? "down" : "" }, gain ? signed(gain) : "±0"));
}

function shellNode(pair) {
  const scenario = pair.scenario === null ? "Pair" : report.scenarios[pair.scenario].text;
  const [agent, partner] = pair.names;
  const who = agent ? `${agent} is the agent${partner ? `, ${partner} the partner` : ""}` : "";
  return el("article", { class: "pair", tabindex: "-1" }, el("header", {},
    el("h2", {}, el("span", { class: "number" }, `${pair.at + 1}`), scenario),
    el("div", { class: "gains" }, SCORES.map((score) => gainNode(pair, score))), who ? el("p", { class: "who" }, who) : null));
}

function render(pair) {
  if (pair.isRendered) return;
  pair.isRendered = true;
  const why = (name, label, text) => (text ? el("p", { class: `why ${name}`, dir: "auto" }, el("b", {}, `${label}: `), text) : "");
  pair.node.append(...[why("located", "Why this turn", pair.location_reason), why("segment", "Why this segment", pair.reason), historyNode(pair),
    el("div", { class: "sides" }, SIDES.map((_, side) => sideNode(pair, side))), provenanceNode(pair)].filter(Boolean));
}

// ---- filters

function haystack(pair) {
  const turns = [...pair.shared, ...pair.sides.flat()].map((line) => line[3]);
  const facts = [pair.id, ...pair.episodes, pair.env, ...(pair.agents ?? []), ...pair.names, pair.reason, pair.location_reason];
  const scenario = pair.scenario === null ? "" : report.scenarios[pair.scenario].text;
  return [scenario, ...facts.filter(Boolean), ...turns].join("\n").toLowerCase();
}

function matcher() {
  const { scenario, text, ...bounds } = Object.fromEntries(new FormData(form));
  const words = text.trim().toLowerCase();
  const bound = (name, otherwise) => (bounds[name] ? Number(bounds[name]) : otherwise);
  const ranges = SCORES.map((score) => [score, bound(`${score}_from`, -Infinity), bound(`${score}_to`, Infinity)]);
  const limits = ranges.filter(([, from, to]) => from > -Infinity || to < Infinity);
  return (pair) =>
    (scenario === "" || String(pair.scenario) === scenario) &&
    limits.every(([score, from, to]) => pair.gains[score] !== null && pair.gains[score] >= from && pair.gains[score] <= to) &&
    (!words || (pair.haystack ??= haystack(pair)).includes(words));
}

function apply() {
  const isShown = matcher();
  let shown = 0;
  for (const pair of report.pairs) {
    pair.node.hidden = !isShown(pair);
    if (!pair.node.hidden) shown += 1;
  }
  document.getElementById("count").textContent = `${shown.toLocaleString("en")} of ${plural(report.pairs.length, "pair")} shown`;
  document.getElementById("none").hidden = shown > 0;
}

function writeHash() {
  const values = Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));
  if (values.scenario) values.scenario = report.scenarios[values.scenario].key;
  const hash = new URLSearchParams(values).toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

function readHash() {
  if (location.hash === "#pairs") return;
  const values = new URLSearchParams(location.hash.slice(1));
  const place = report.scenarios.findIndex(({ key }) => key === values.get("scenario"));
  for (const field of form.elements) {
    if (field.name) field.value = field.name === "scenario" ? (place < 0 ? "" : String(place)) : (values.get(field.name) ?? "");
  }
  apply();
}

function fillFilters() {
  const counts = report.scenarios.map(() => 0);
  for (const pair of report.pairs) if (pair.scenario !== null) counts[pair.scenario] += 1;
  const options = report.scenarios.map(({ label }, place) => el("option", { value: place }, `${label} (${counts[place]})`));
  options.sort((a, b) => a.textContent.localeCompare(b.textContent));
  form.elements.scenario.append(el("option", { value: "" }, "all"), ...options);
  form.elements.scenario.closest("label").hidden = !options.length;
  for (const fields of form.querySelectorAll("fieldset")) {
    fields.hidden = report.pairs.every((pair) => pair.gains[fields.dataset.score] === null);
  }
}

// ---- keys and start

function step(by) {
  const shown = report.pairs.map((pair) => pair.node).filter((node) => !node.hidden);
  const edge = parseFloat(getComputedStyle(document.documentElement).scrollPaddingTop) + 4;
  const next = by > 0 ? shown.find((node) => node.getBoundingClientRect().top > edge)
    : shown.findLast((node) => node.getBoundingClientRect().top < edge - 8);
  if (!next) return;
  next.scrollIntoView();
  next.focus({ preventScroll: true });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "/") {
    event.preventDefault();
    form.elements.text.focus();
  }
}

function start() {
  showTotals();
  document.getElementById("charts").append(...report.histograms.map(chart));
  const fold = document.getElementById("charts-fold");
  fold.hidden = !report.histograms.length;
  fold.open = !matchMedia(NARROW).matches;
  showLegend();
  fillFilters();
  report.pairs.forEach((pair, at) => {
    pair.at = at;
    pair.node = shellNode(pair);
  });
  list.append(...report.pairs.map((pair) => pair.node), el("p", { id: "none", class: "empty", hidden: true }, "No pair fits these filters."));
  const pairAt = new Map(report.pairs.map((pair) => [pair.node, pair]));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) render(pairAt.get(entry.target));
  }, { rootMargin: RENDER_AHEAD });
  report.pairs.forEach((pair) => watcher.observe(pair.node));
  let waiting;
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { apply(); writeHash(); }, TYPING_MS);
  });
  form.addEventListener("reset", () => setTimeout(() => { apply(); writeHash(); }));
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", readHash);
  addEventListener("beforeprint", () => report.pairs.filter((pair) => !pair.node.hidden).forEach(render));
  addEventListener("keydown", onKey);
  readHash();
}

start();
