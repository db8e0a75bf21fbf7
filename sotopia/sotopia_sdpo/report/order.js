// In which order pairs stand, and which of them are flagged; a browser remembers flags by what pairs say.

const KEPT_AS = `sdpo flags of ${report.file}`;
const flagged = new Set();
let elsewhere = []; // flags of pairs that were in an older file of this name

function keptFlags() {
  try {
    return JSON.parse(localStorage.getItem(KEPT_AS)) ?? [];
  } catch {
    return []; // storage may be switched off
  }
}

function keepFlags() {
  try {
    localStorage.setItem(KEPT_AS, JSON.stringify([...flagged, ...elsewhere]));
  } catch {
    // Then they last as long as the page.
  }
}

function orders(names) {
  const found = [["", WORDS.are_pairs ? "as in the file" : "B − A, lowest first"]];
  for (const name of names) {
    found.push([`up ${name}`, `${WORDS.gain} ${name}, lowest first`]);
    found.push([`down ${name}`, `${WORDS.gain} ${name}, highest first`]);
  }
  if (report.pairs.some((pair) => pair.segments.some(Boolean))) {
    found.push(["up-length", "segment, shortest first"], ["down-length", "segment, longest first"]);
  }
  if (WORDS.are_pairs) found.push(["flags", "flagged first"]);
  return found;
}

// A pair without the number comes last, in either direction.
function rank(pair, order) {
  if (order === "flags") return flagged.has(pair.digest) ? 0 : 1;
  const sign = order.startsWith("down") ? -1 : 1;
  const segment = pair.segments[1] ?? pair.segments[0];
  // An outcome may be called anything, response-length too; behind a space it is one.
  const value = order.includes(" ") ? pair.gains[order.replace(/^\w+ /, "")] : segment && segment[1] - segment[0];
  return value === null || value === undefined ? Infinity : sign * value;
}

let shownOrder = "";

function sortPairs(order) {
  if (order === shownOrder && order !== "flags") return;
  shownOrder = order;
  const ranks = new Map(report.pairs.map((pair) => [pair, order ? rank(pair, order) : 0]));
  // Infinity less itself is no number.
  const sorted = [...report.pairs].sort((a, b) => (ranks.get(a) === ranks.get(b) ? 0 : ranks.get(a) - ranks.get(b)));
  document.getElementById("none").before(...sorted.map((pair) => pair.node));
}

function flagNode(pair) {
  pair.flag = el("button", { type: "button", class: "flag", "aria-pressed": "false" }, "⚑ Flag");
  pair.flag.addEventListener("click", () => setFlag(pair.digest, !flagged.has(pair.digest)));
  return pair.flag;
}

function setFlag(digest, isOn) {
  if (isOn) flagged.add(digest);
  else flagged.delete(digest);
  keepFlags();
  showFlags();
}

function showFlags() {
  for (const pair of report.pairs) {
    const isOn = flagged.has(pair.digest);
    pair.node.classList.toggle("is-flagged", isOn);
    pair.flag.setAttribute("aria-pressed", String(isOn));
    pair.flag.textContent = isOn ? "⚑ Flagged" : "⚑ Flag";
  }
  const button = document.getElementById("export");
  button.disabled = !flagged.size;
  button.textContent = flagged.size ? `Export ${plural(flagged.size, "flag")}` : "Export flags";
}

function flagFocused() {
  const pair = report.pairs.find((one) => one.node.contains(document.activeElement));
  if (pair && WORDS.are_pairs) setFlag(pair.digest, !flagged.has(pair.digest));
}

function restoreFlags() {
  if (!WORDS.are_pairs) return;
  const known = new Set(report.pairs.map((pair) => pair.digest));
  const kept = keptFlags();
  for (const digest of kept) if (known.has(digest)) flagged.add(digest);
  elsewhere = kept.filter((digest) => !known.has(digest));
  showFlags();
}

// What `train.sh … drop_pairs=FILE` reads: the digest; the rest is for people.
function flagsFile() {
  const pairs = report.pairs.filter((pair) => flagged.has(pair.digest));
  const listed = pairs.map(({ digest, id, at }) => ({ digest, pair: id, records: [2 * at, 2 * at + 1] }));
  return `${JSON.stringify({ file: report.file, pairs: listed }, null, 1)}\n`;
}

function exportFlags() {
  const address = URL.createObjectURL(new Blob([flagsFile()], { type: "application/json" }));
  el("a", { href: address, download: `${report.file.replace(/\.\w+$/, "")}_flags.json` }).click();
  URL.revokeObjectURL(address);
}
