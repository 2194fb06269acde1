// Shows /status.json, every two seconds. What comes from the network is only ever set as text.
"use strict";

const PERIOD = 2000;
const NARROW = matchMedia("(max-width: 42rem)").matches;
const WIDTH = NARROW ? 520 : 900;
// With more nodes than this the picture shows the names of few.
const MANY = NARROW ? 45 : 60;
const SVG = "http://www.w3.org/2000/svg";

const byId = id => document.getElementById(id);

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function replace(id, children) {
  byId(id).replaceChildren(...children);
}

function row(...cells) {
  const made = element("tr");
  for (const cell of cells) {
    const td = element("td", undefined, typeof cell === "number" || cell.number ? "number" : "");
    td.append(cell instanceof Node ? cell : String(cell.number ?? cell));
    made.append(td);
  }
  return made;
}

function amount(number) {
  return number.toLocaleString("en-US").replaceAll(",", "\u202f");
}

function octets(number) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (number < 1024) return (unit === "B" || number >= 100 ? Math.round(number) : number.toFixed(1)) + "\u00a0" + unit;
    number /= 1024;
  }
  return number.toFixed(1) + "\u00a0TiB";
}

function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  let at = parts.findIndex(([size]) => seconds >= size);
  if (at < 0) return "0 s";
  const [size, name] = parts[at];
  const first = Math.floor(seconds / size) + "\u00a0" + name;
  const next = parts[at + 1];
  if (!next) return first;
  const rest = Math.floor((seconds % size) / next[0]);
  return rest ? first + " " + rest + "\u00a0" + next[1] : first;
}

// A number and what it counts.
function tile(value, what) {
  const made = element("div", undefined, "tile");
  made.append(element("b", value), element("span", what));
  return made;
}

let before = null;

// How much came each second since the last time.
function rate(status, read) {
  if (!before || status.uptime <= before.uptime) return "\u2013";
  const rate = (read(status) - read(before)) / (status.uptime - before.uptime);
  return amount(rate < 10 ? Math.round(rate * 10) / 10 : Math.round(rate)) + "/s";
}

function show(status) {
  document.title = status.node + " \u2013 aemp";
  byId("node").textContent = status.node;
  const master = status.global ? "global" : status.master ? "slave of " + status.master : "no master";
  byId("about").textContent = status.software + ", " + master + ", up " + duration(status.uptime);
  byId("health").textContent = status.warnings.join("; ") || "healthy";
  byId("health").className = !status.healthy ? "bad" : status.warnings.length ? "" : "good";
  replace("tiles", [
    tile(amount(status.connections.up), "connected nodes"),
    tile(status.seeds[0] + " of " + status.seeds[1], "seeds connected"),
    tile(rate(status, s => s.traffic.sent[0]), "packets sent"),
    tile(rate(status, s => s.traffic.received[0]), "packets received"),
    tile(octets(status.waiting), "queued to be sent"),
    tile(octets(status.ports_waiting), "queued in ports"),
    tile(amount(status.ports), "ports"),
    tile(amount(status.monitors), "monitors"),
    tile(amount(status.connections.lost), "connections lost"),
    tile(amount(status.healed), "slaves healed"),
  ]);
  replace("links", status.links.map(link => row(
    link.node + (link.untrusted ? " (untrusted)" : ""), link.software, link.framing,
    link.protection + (link.plain_because ? " (" + link.plain_because + ")" : ""),
    { number: amount(link.sent[0]) + " / " + octets(link.sent[1]) },
    { number: amount(link.received[0]) + " / " + octets(link.received[1]) },
    { number: octets(link.waiting) },
  )));
  replace("families", status.families.map(([family, keys]) => row(
    status.values ? opener(family) : family, { number: amount(keys) },
  )));
  byId("families-note").textContent = !status.global ? "Only global nodes keep the database."
    : status.families_left_out ? "and " + amount(status.families_left_out) + " more families"
    : status.values ? "" : "Values are not shown: metrics_values is not set.";
  replace("handshakes", status.handshakes.map(h => row(
    h.dialled ? "this node" : "others", h.outcome.replace("_", " "), { number: amount(h.count) },
  )));
  replace("events", status.events.toReversed().map(event => {
    const made = element("li");
    const time = element("time", new Date(event.time * 1000).toTimeString().slice(0, 8));
    time.dateTime = new Date(event.time * 1000).toISOString();
    const what = element("span", event.node + (event.reason ? ": " + event.reason : ""));
    made.append(time, element("span", event.up ? "up" : "down", event.up ? "up" : "down"), what);
    return made;
  }));
  draw(status.network);
  before = status;
}

// A family's name that opens its values.
function opener(family) {
  const made = element("button", family);
  made.type = "button";
  made.addEventListener("click", () => open(family));
  return made;
}

async function open(family) {
  const answer = await fetch("/family.json?name=" + encodeURIComponent(family));
  if (!answer.ok) return;
  const { entries, keys } = await answer.json();
  byId("values").hidden = false;
  byId("values-of").textContent = family + (entries.length < keys ? " (the first " + entries.length + ")" : "");
  replace("entries", entries.map(([key, value]) => row(key, value)));
}

let drawn = "";

function draw(network) {
  const picture = JSON.stringify(network);
  byId("left-out").textContent = network.left_out ? "and " + amount(network.left_out) + " more nodes" : "";
  if (picture === drawn) return;
  drawn = picture;
  const { spots, height } = arrange(network);
  const svg = svgElement("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img" });
  svg.setAttribute("aria-label", network.nodes.length + " nodes, " + network.links.length + " connections");
  svg.setAttribute("class", network.nodes.length > MANY ? "many" : "few");
  for (const [a, b] of network.links) svg.append(line(spots[a], spots[b]));
  const seen = new Set(network.links.flat());
  const names = [];
  network.nodes.forEach((node, index) => {
    const spot = spots[index];
    const kind = index === 0 ? "own" : node.global ? "global" : seen.has(index) ? "plain" : "unknown";
    const group = svgElement("g", { class: kind });
    const title = svgElement("title", {});
    title.textContent = node.software ? node.id + " (" + node.software + ")" : node.id;
    group.append(title, mark(node, spot, index === 0 ? 10 : spot.size));
    svg.append(group);
    if (spot.name) {
      const text = svgElement("text", { x: spot.name.x, y: spot.name.y, "text-anchor": spot.name.anchor });
      text.textContent = shortened(node.id);
      names.push(text);
    }
  });
  svg.append(...names);
  replace("picture", [svg]);
}

function svgElement(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, typeof value === "number" ? value.toFixed(1) : value);
  }
  return made;
}

// Perl nodes are squares, all others circles.
function mark(node, { x, y }, size) {
  if (!node.software.startsWith("AE-")) return svgElement("circle", { cx: x, cy: y, r: size });
  const half = size * 0.88;
  return svgElement("rect", { x: x - half, y: y - half, width: 2 * half, height: 2 * half });
}

// A connection; between nodes of the same column it is bent, so that it passes those in between.
function line(a, b) {
  if (Math.abs(a.x - b.x) > 1) return svgElement("line", { x1: a.x, y1: a.y, x2: b.x, y2: b.y });
  const bend = a.x < WIDTH / 2 ? 1 : -1;
  const far = a.x + bend * Math.min(120, 20 + Math.abs(a.y - b.y) / 2);
  const number = value => value.toFixed(1);
  const path = `M${number(a.x)} ${number(a.y)}Q${number(far)} ${number((a.y + b.y) / 2)} ${number(b.x)} ${number(b.y)}`;
  return svgElement("path", { d: path });
}

// The end of a node ID is often what distinguishes it.
function shortened(id) {
  const points = [...id];
  return points.length <= 28 ? id : points.slice(0, 14).join("") + "\u2026" + points.slice(-13).join("");
}

// The place of each node: this node and the global ones in the middle, all others around them in the
// order of their masters and names.
function arrange({ nodes, links }) {
  const isCore = nodes.map((node, index) => index === 0 || node.global === true);
  const masters = nodes.map(() => nodes.length);
  for (const [a, b] of [...links, ...links.map(([a, b]) => [b, a])]) {
    if (isCore[b]) masters[a] = Math.min(masters[a], b);
  }
  const collator = new Intl.Collator("en", { numeric: true });
  const inOrder = indices => indices.sort((a, b) => collator.compare(nodes[a].id, nodes[b].id));
  const core = inOrder([...nodes.keys()].filter(index => isCore[index]));
  const others = inOrder([...nodes.keys()].filter(index => !isCore[index]));
  others.sort((a, b) => masters[a] - masters[b]);
  return nodes.length > MANY ? inRings(core, others) : NARROW ? inRows(core, others) : inColumns(core, others);
}

// The middle of the part of `count` that has this number, on a length.
const middle = (number, count, length) => (number + 0.5) * length / count;

// All others in a column on either side, with their names outside.
function inColumns(core, others) {
  const left = Math.floor(others.length / 2);
  const height = Math.max(24 * Math.max(left, others.length - left), 46 * core.length, 110) + 30;
  const spots = [];
  core.forEach((index, number) => {
    const x = WIDTH / 2, y = middle(number, core.length, height);
    spots[index] = { x, y, size: 8, name: { x, y: y - 15, anchor: "middle" } };
  });
  others.forEach((index, number) => {
    const isLeft = number < left;
    const x = WIDTH / 2 + (isLeft ? -1 : 1) * WIDTH * 0.22;
    const y = isLeft ? middle(number, left, height) : middle(number - left, others.length - left, height);
    const name = { x: x + (isLeft ? -14 : 14), y: y + 4.5, anchor: isLeft ? "end" : "start" };
    spots[index] = { x, y, size: 7, name };
  });
  return { spots, height };
}

// For narrow windows: all others in one column, with their names on the right.
function inRows(core, others) {
  const height = Math.max(28 * others.length, 60 * core.length, 110) + 30;
  const spots = [];
  core.forEach((index, number) => {
    const y = middle(number, core.length, height);
    spots[index] = { x: 40, y, size: 8, name: { x: 8, y: y - 17, anchor: "start" } };
  });
  others.forEach((index, number) => {
    const x = WIDTH * 0.45, y = middle(number, others.length, height);
    spots[index] = { x, y, size: 7, name: { x: x + 16, y: y + 5, anchor: "start" } };
  });
  return { spots, height };
}

// Many nodes: those in the middle with names if they are few, all others on ellipses around them.
function inRings(core, others) {
  const height = NARROW ? 520 : 560;
  const at = (angle, size) => ({
    x: WIDTH / 2 + Math.sin(angle) * size * (WIDTH / 2 - 16),
    y: height / 2 - Math.cos(angle) * size * (height / 2 - 16),
  });
  const spots = [];
  core.forEach((index, number) => {
    const spot = at(2 * Math.PI * number / core.length, core.length === 1 ? 0 : 0.34);
    const name = core.length > 12 ? undefined : { x: spot.x, y: spot.y - 15, anchor: "middle" };
    spots[index] = { ...spot, size: 7, name };
  });
  const rings = Math.ceil(others.length / 75);
  others.forEach((index, number) => {
    const spot = at(2 * Math.PI * (number + 0.5) / others.length, 1 - 0.1 * (number % rings));
    spots[index] = { ...spot, size: 5 };
  });
  return { spots, height };
}

async function update() {
  try {
    const answer = await fetch("/status.json", { signal: AbortSignal.timeout(8000) });
    if (!answer.ok) throw new Error("status " + answer.status);
    show(await answer.json());
    document.body.classList.remove("stale");
  } catch (error) {
    byId("health").textContent = "no answer from the node";
    byId("health").className = "bad";
    document.body.classList.add("stale");
  }
  setTimeout(update, PERIOD);
}

update();
