// One pair: its line of outcomes at once, the rest when it comes into view.

const MOST_OF_A_LINE = 110;
const MOST_OF_AN_ARGUMENT = 40;
const BY_STATE = "the positive began in other words, with the same calls and the same results";

function turnNode(pair, side, [index, who, kind, text], row) {
  const segment = side === null ? null : pair.segments[side];
  const isLocated = side !== 1 && index === pair.location;
  const isIn = segment && index >= segment[0] && index < segment[1];
  const isAfter = segment && index >= segment[1];
  const isPerson = who === "agent" || who === "partner";
  const name = isPerson ? pair.names[who === "agent" ? 0 : 1] : "";
  const tags = [name ? el("small", {}, who) : null];
  if (isLocated) tags.push(el("span", { class: "tag located" }, "◆ located turn"));
  if (isIn && index === segment[0])
    tags.push(el("span", { class: "tag segment" }, `segment of ${segmentLength(pair, side)}`));
  const weights = (side === null ? pair.weights : [pair.weights[side]]).map((given) => given[index]);
  for (const weight of new Set(weights.filter((given) => given !== undefined)))
    tags.push(el("small", {}, `weight ${weight}`));
  const classes = ["turn", who, isLocated && "is-located", isIn && "in-segment", isAfter && "is-after"];
  return el(
    "div",
    { class: classes.filter(Boolean).join(" "), style: { "--row": row } },
    el("span", { class: "index", title: `Turn ${index}` }, String(index)),
    el(
      "div",
      { class: "bubble" },
      el("div", { class: "name" }, name || who[0].toUpperCase() + who.slice(1), tags),
      saidNode(kind, text),
    ),
  );
}

function segmentLength(pair, side) {
  const [start, end] = pair.segments[side];
  return PLACE === "task" ? `${plural(pair.agent_turns[side], "turn")} of the agent's` : end - start;
}

// What tools are told and give is folded: a line of it, and the whole on a click.
function foldNode(kind, line, whole) {
  const short = line.length > MOST_OF_A_LINE ? `${line.slice(0, MOST_OF_A_LINE)} …` : line;
  return el(
    "details",
    { class: "tool-fold" },
    el("summary", { dir: "auto" }, el("small", {}, kind), " ", short.replace(/\s+/g, " ")),
    el("pre", { class: "whole", dir: "auto" }, whole),
  );
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function callNode({ name, arguments: given }) {
  const isObject = given !== null && typeof given === "object" && !Array.isArray(given);
  const shown = isObject
    ? Object.entries(given).map(([key, value]) => `${key}: ${JSON.stringify(value)}`)
    : given === null || given === undefined
      ? []
      : [JSON.stringify(given)];
  const short = shown.map((one) => (one.length > MOST_OF_AN_ARGUMENT ? `${one.slice(0, MOST_OF_AN_ARGUMENT)}…` : one));
  return foldNode("calls", `${name}(${short.join(", ")})`, `${name} ${JSON.stringify(given ?? {}, null, 2)}`);
}

function saidNode(kind, text) {
  if (kind === "result") return foldNode("gives", text.trim() || "nothing", pretty(text));
  if (kind === "calls") {
    const { says, calls } = JSON.parse(text);
    return el("div", {}, says ? el("div", { class: "said plain", dir: "auto" }, says) : null, calls.map(callNode));
  }
  if (kind === "speak") return el("div", { class: "said", dir: "auto" }, text);
  if (kind === "text") return el("div", { class: "said plain", dir: "auto" }, text);
  if (kind === "leave") return el("div", { class: "said note" }, "leaves the conversation", text ? `: ${text}` : "");
  if (kind === "none") return el("div", { class: "said note" }, "does nothing", text ? `: ${text}` : "");
  const label = kind === "action" ? null : el("small", {}, `[${kind}] `);
  return el("div", { class: "said", dir: "auto" }, label, el("em", {}, text));
}

function sideNode(pair, side) {
  const name = SIDES[side];
  const known = report.outcomes.filter((name) => (pair.scores[name]?.[side] ?? null) !== null);
  const scores = known.map((name) => `${name} ${number(pair.scores[name][side])}`).join(", ");
  const segment = pair.segments[side];
  const nodes = [];
  let row = 2;
  for (const line of pair.sides[side]) {
    if (segment && line[0] >= segment[1] && !nodes.some((node) => node.className === "after")) {
      nodes.push(el("div", { class: "after", style: { "--row": row++ } }, AFTER));
    }
    nodes.push(turnNode(pair, side, line, row++));
  }
  if (!nodes.length)
    nodes.push(el("div", { class: "after", style: { "--row": row } }, "nothing that the other side has not"));
  return el(
    "section",
    { class: `side ${name}`, "aria-label": WORDS.sides[side] },
    el("h3", {}, capital(WORDS.sides[side]), scores ? el("small", {}, scores) : null),
    nodes,
    reasonsNode(pair, side, nodes.length + 2),
  );
}

// Why an episode has its scores, where two runs are compared.
function reasonsNode(pair, side, row) {
  const given = pair.reasons?.[side] ?? [];
  if (!given.length) return null;
  const rows = given.map(([name, value, text]) => [
    el("dt", {}, `${name.replaceAll("_", " ")} ${number(value)}`),
    el("dd", { dir: "auto" }, text),
  ]);
  return el(
    "details",
    { class: "fold reasons", style: { "--row": row } },
    el("summary", {}, "Why these scores"),
    el("dl", { class: "facts" }, rows),
  );
}

function historyNode(pair) {
  const isLocatedHere = pair.shared.some(([index]) => index === pair.location);
  const parts = [pair.background && "background", pair.shared.length && plural(pair.shared.length, "turn")].filter(
    Boolean,
  );
  if (!parts.length) return null;
  const label = `Shared history: ${parts.join(" and ")}${isLocatedHere ? ", with the located turn" : ""}`;
  const content = [
    pair.background ? el("div", { class: "background", tabindex: "0", dir: "auto" }, pair.background) : null,
  ];
  return el(
    "details",
    { class: "fold" },
    el("summary", {}, label),
    content,
    pair.shared.map((line) => turnNode(pair, null, line, "auto")),
  );
}

function provenanceNode(pair) {
  const facts = [
    [
      "pair",
      pair.id &&
        el("a", { href: `#${new URLSearchParams({ text: pair.id })}`, title: "Show this pair alone" }, pair.id),
    ],
    [`${WORDS.sides[0]} episode`, pair.episodes[0]],
    [`${WORDS.sides[1]} episode`, pair.episodes[1]],
    ["scenario", pair.env],
    ["task", pair.task],
    ["trials", pair.trials.every((one) => one !== null) ? pair.trials.join(" and ") : null],
    ["source", pair.source],
    ["history", pair.match === "state" ? BY_STATE : null],
    [
      "agents",
      pair.agents &&
        pair.agents.map((agent, at) => (at === pair.position ? `${agent} (the agent)` : agent)).join(", "),
    ],
    [WORDS.are_pairs ? "agent's model" : `models of ${WORDS.sides[0]}`, pair.models[0]],
    [WORDS.are_pairs ? "partner's model" : `models of ${WORDS.sides[1]}`, pair.models[1]],
    ["agent position", pair.position],
    ["located turn", pair.location],
    ["segments", segmentText(pair)],
    ["records", WORDS.are_pairs && `${2 * pair.at} and ${2 * pair.at + 1}`],
  ];
  const known = facts.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  return el(
    "details",
    { class: "fold" },
    el("summary", {}, "Where it comes from"),
    el(
      "dl",
      { class: "facts" },
      known.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value.nodeType ? value : String(value))]),
    ),
  );
}

function segmentText(pair) {
  const texts = pair.segments.map((segment) => segment && `[${segment[0]}, ${segment[1]})`);
  return texts[0] === texts[1] ? texts[0] : `negative ${texts[0] ?? "none"}, positive ${texts[1] ?? "none"}`;
}

function gainNode(pair, name) {
  const gain = pair.gains[name];
  const [from, to] = pair.scores[name] ?? [null, null];
  const told = (value) => (value === null ? "unknown" : number(value));
  if (gain === null || gain === undefined) {
    const either = from === null && to === null ? "unknown" : `${told(from)} → ${told(to)}`;
    return el("span", { class: "gain" }, `${name} ${either}`);
  }
  const both = from === null || to === null ? "" : ` ${number(from)} → ${number(to)}`;
  return el(
    "span",
    { class: "gain" },
    `${name}${both} `,
    el("b", { class: gain > 0 ? "up" : gain < 0 ? "down" : "" }, gain ? signed(gain) : "±0"),
  );
}

function shellNode(pair) {
  const scenario = pair.scenario === null ? "Pair" : report.scenarios[pair.scenario].text;
  const [agent, partner] = pair.names;
  const who = agent ? `${agent} is the agent${partner ? `, ${partner} the partner` : ""}` : "";
  return el(
    "article",
    { class: "pair", tabindex: "-1" },
    el(
      "header",
      {},
      el("h2", {}, el("span", { class: "number" }, `${pair.at + 1}`), scenario),
      el(
        "div",
        { class: "gains" },
        pair.match === "state" ? el("span", { class: "gain state", title: BY_STATE }, "matched by state") : null,
        report.outcomes.map((name) => gainNode(pair, name)),
        WORDS.are_pairs ? flagNode(pair) : null,
      ),
      who ? el("p", { class: "who" }, who) : null,
    ),
  );
}

function render(pair) {
  if (pair.isRendered) return;
  pair.isRendered = true;
  const why = (name, label, text) =>
    text ? el("p", { class: `why ${name}`, dir: "auto" }, el("b", {}, `${label}: `), text) : "";
  pair.node.append(
    ...[
      why("located", "Why this turn", pair.location_reason),
      why("segment", "Why this segment", pair.reason),
      historyNode(pair),
      el(
        "div",
        { class: "sides" },
        SIDES.map((_, side) => sideNode(pair, side)),
      ),
      provenanceNode(pair),
    ].filter(Boolean),
  );
}
