// Filters, which are part of the address, and what starts the page.

const RENDER_AHEAD = "1200px";
const TYPING_MS = 120;
const NARROW = "(max-width: 46rem)";
const MOST_WHOLE = 8;

function haystack(pair) {
  const turns = [...pair.shared, ...pair.sides.flat()].map((line) => line[3]);
  const facts = [
    pair.id,
    ...pair.episodes,
    pair.env,
    pair.task,
    ...(pair.agents ?? []),
    ...pair.names,
    pair.reason,
    pair.location_reason,
    ...(pair.reasons ?? []).flat(2).filter((one) => typeof one === "string"),
  ];
  const scenario = pair.scenario === null ? "" : report.scenarios[pair.scenario].text;
  return [scenario, ...facts.filter(Boolean), ...turns].join("\n").toLowerCase();
}

function matcher() {
  const { scenario, text, order, flags, ...bounds } = Object.fromEntries(new FormData(form));
  const words = text.trim().toLowerCase();
  const bound = (name, otherwise) => (bounds[name] ? Number(bounds[name]) : otherwise);
  const ranges = report.outcomes.map((name) => [name, bound(`${name}_from`, -Infinity), bound(`${name}_to`, Infinity)]);
  const limits = ranges.filter(([, from, to]) => from > -Infinity || to < Infinity);
  return (pair) =>
    (scenario === "" || String(pair.scenario) === scenario) &&
    (!flags || (flags === "on") === flagged.has(pair.digest)) &&
    limits.every(
      ([name, from, to]) => (pair.gains[name] ?? null) !== null && pair.gains[name] >= from && pair.gains[name] <= to,
    ) &&
    (!words || (pair.haystack ??= haystack(pair)).includes(words));
}

function apply() {
  const isShown = matcher();
  let shown = 0;
  for (const pair of report.pairs) {
    pair.node.hidden = !isShown(pair);
    if (!pair.node.hidden) shown += 1;
  }
  // On paper many pairs are a line each, few are whole.
  document.body.classList.toggle("is-folded", shown > MOST_WHOLE);
  sortPairs(form.elements.order.value);
  document.getElementById("count").textContent =
    `${shown.toLocaleString("en")} of ${plural(report.pairs.length, "pair")} shown`;
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
    if (field.name)
      field.value = field.name === "scenario" ? (place < 0 ? "" : String(place)) : (values.get(field.name) ?? "");
  }
  if (form.elements.order.selectedIndex < 0) form.elements.order.value = "";
  if (form.elements.flags.selectedIndex < 0) form.elements.flags.value = "";
  apply();
}

function fillFilters() {
  const counts = report.scenarios.map(() => 0);
  for (const pair of report.pairs) if (pair.scenario !== null) counts[pair.scenario] += 1;
  const options = report.scenarios.map(({ label }, place) =>
    el("option", { value: place }, `${label} (${counts[place]})`),
  );
  options.sort((a, b) => a.textContent.localeCompare(b.textContent));
  form.elements.scenario.append(el("option", { value: "" }, "all"), ...options);
  form.elements.scenario.closest("label").hidden = !options.length;
  document.getElementById("place").textContent = capital(PLACE);
  const withGains = report.outcomes.filter((name) =>
    report.pairs.some((pair) => (pair.gains[name] ?? null) !== null),
  );
  form.elements.order.append(...orders(withGains).map(([value, text]) => el("option", { value }, text)));
  for (const node of document.querySelectorAll(".of-flags")) node.hidden = !WORDS.are_pairs;
  form.querySelector(".end").before(...withGains.map(rangeNode));
}

function rangeNode(name) {
  const shown = visible(name);
  const field = (end, words, placeholder) =>
    el("input", {
      name: `${name}_${end}`,
      type: "number",
      step: "any",
      "aria-label": `${WORDS.gain} ${shown}, ${words}`,
      placeholder,
    });
  return el(
    "fieldset",
    {},
    el("legend", {}, `${WORDS.gain} ${shown}`),
    el(
      "div",
      { class: "range" },
      field("from", "at least", "min"),
      el("span", { "aria-hidden": "true" }, "to"),
      field("to", "at most", "max"),
    ),
  );
}

function step(by) {
  const shown = [...list.querySelectorAll(".pair")].filter((node) => !node.hidden);
  const edge = parseFloat(getComputedStyle(document.documentElement).scrollPaddingTop) + 4;
  const next =
    by > 0
      ? shown.find((node) => node.getBoundingClientRect().top > edge)
      : shown.findLast((node) => node.getBoundingClientRect().top < edge - 8);
  if (!next) return;
  next.scrollIntoView();
  next.focus({ preventScroll: true });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "f") flagFocused();
  else if (event.key === "/") {
    event.preventDefault();
    form.elements.text.focus();
  }
}

// The filters stay in sight, so what is jumped to must stand below them, however many lines they take.
function makeRoom() {
  const isSticky = getComputedStyle(form).position === "sticky";
  document.documentElement.style.scrollPaddingTop = isSticky ? `${form.offsetHeight + 8}px` : "";
}

function showCharts() {
  document.getElementById("charts").append(...report.histograms.map(chart));
  const fold = document.getElementById("charts-fold");
  fold.hidden = !report.histograms.length;
  fold.open = !matchMedia(NARROW).matches;
}

function showPairs() {
  const pairAt = new Map();
  const watch = (entries) => {
    for (const entry of entries) if (entry.isIntersecting) render(pairAt.get(entry.target));
  };
  const watcher = new IntersectionObserver(watch, { rootMargin: RENDER_AHEAD });
  report.pairs.forEach((pair, at) => {
    pair.at = at;
    pair.node = shellNode(pair);
    pairAt.set(pair.node, pair);
    watcher.observe(pair.node);
  });
  const none = el("p", { id: "none", class: "empty", hidden: true }, "No pair fits these filters.");
  list.append(...pairAt.keys(), none);
}

function listen() {
  let waiting;
  const changed = (delay_ms) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      apply();
      writeHash();
    }, delay_ms);
  };
  form.addEventListener("input", () => changed(TYPING_MS));
  // The fields are empty only after the event.
  form.addEventListener("reset", () => changed(0));
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", readHash);
  addEventListener("resize", makeRoom);
  document.getElementById("export").addEventListener("click", exportFlags);
  addEventListener("beforeprint", () => {
    if (!document.body.classList.contains("is-folded"))
      report.pairs.filter((pair) => !pair.node.hidden).forEach(render);
  });
  addEventListener("keydown", onKey);
}

document.body.classList.toggle("of-runs", !WORDS.are_pairs);
showTotals();
showCharts();
showLegend();
fillFilters();
showPairs();
restoreFlags();
listen();
readHash();
makeRoom();
