// One pair: its line of scores at once, the rest when it comes into view.

function turnNode(pair, side, [index, who, kind, text], row) {
  const segment = side === null ? null : pair.segments[side];
  const isLocated = side !== 1 && index === pair.location;
  const isIn = segment && index >= segment[0] && index < segment[1];
  const isAfter = segment && index >= segment[1];
  const name = who === "system" ? "System" : pair.names[who === "agent" ? 0 : 1];
  const tags = [name && who !== "system" ? el("small", {}, who) : null];
  if (isLocated) tags.push(el("span", { class: "tag located" }, "◆ located turn"));
  if (isIn && index === segment[0])
    tags.push(el("span", { class: "tag segment" }, `segment of ${segment[1] - segment[0]}`));
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
      nodes.push(el("div", { class: "after", style: { "--row": row++ } }, AFTER));
    }
    nodes.push(turnNode(pair, side, line, row++));
  }
  if (!nodes.length)
    nodes.push(el("div", { class: "after", style: { "--row": row } }, "nothing that the other side has not"));
  return el(
    "section",
    { class: `side ${name}`, "aria-label": name },
    el("h3", {}, name[0].toUpperCase() + name.slice(1), scores ? el("small", {}, scores) : null),
    nodes,
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
    ["negative episode", pair.episodes[0]],
    ["positive episode", pair.episodes[1]],
    ["scenario", pair.env],
    [
      "agents",
      pair.agents &&
        pair.agents.map((agent, at) => (at === pair.position ? `${agent} (the agent)` : agent)).join(", "),
    ],
    ["agent's model", pair.models[0]],
    ["partner's model", pair.models[1]],
    ["agent position", pair.position],
    ["located turn", pair.location],
    ["segments", segmentText(pair)],
    ["records", `${2 * pair.at} and ${2 * pair.at + 1}`],
  ];
  const known = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
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

function gainNode(pair, score) {
  const gain = pair.gains[score];
  if (gain === null) return null;
  const [from, to] = pair.scores[score];
  const both = from === null || to === null ? "" : ` ${number(from)} → ${number(to)}`;
  return el(
    "span",
    { class: "gain" },
    `${score}${both} `,
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
        SCORES.map((score) => gainNode(pair, score)),
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
