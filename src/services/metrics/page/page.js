// Shows /status.json, every two seconds. What comes from the network is only ever set as text.
"use strict";

const PERIOD = 2000;
const NARROW = matchMedia("(max-width: 42rem)").matches;
const WIDTH = NARROW ? 520 : 900;
const HEIGHT = NARROW ? 520 : 460;
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

// Where nodes stand, by their names, so that they stay there.
let places = new Map();
let drawn = "";

function draw(network) {
  const picture = JSON.stringify(network);
  byId("left-out").textContent = network.left_out ? "and " + amount(network.left_out) + " more nodes" : "";
  if (picture === drawn) return;
  drawn = picture;
  const where = arrange(network);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", network.nodes.length + " nodes, " + network.links.length + " connections");
  for (const [a, b] of network.links) {
    const line = document.createElementNS(SVG, "line");
    for (const [name, value] of [["x1", where[a].x], ["y1", where[a].y], ["x2", where[b].x], ["y2", where[b].y]]) {
      line.setAttribute(name, value.toFixed(1));
    }
    svg.append(line);
  }
  const seen = new Set(network.links.flat());
  network.nodes.forEach((node, index) => {
    const group = document.createElementNS(SVG, "g");
    const kind = index === 0 ? "own" : node.global ? "global" : seen.has(index) ? "plain" : "unknown";
    group.setAttribute("class", kind);
    const circle = document.createElementNS(SVG, "circle");
    circle.setAttribute("cx", where[index].x.toFixed(1));
    circle.setAttribute("cy", where[index].y.toFixed(1));
    circle.setAttribute("r", index === 0 ? 11 : network.nodes.length > 60 ? 5 : 8);
    const title = document.createElementNS(SVG, "title");
    title.textContent = node.software ? node.id + " (" + node.software + ")" : node.id;
    group.append(title, circle);
    if (network.nodes.length <= 60) {
      const text = document.createElementNS(SVG, "text");
      text.setAttribute("x", where[index].x.toFixed(1));
      text.setAttribute("y", (where[index].y - 15).toFixed(1));
      text.textContent = node.id.length > 28 ? node.id.slice(0, 27) + "\u2026" : node.id;
      group.append(text);
    }
    svg.append(group);
  });
  replace("picture", [svg]);
}

// Places for all nodes: those that are linked near each other, all others apart.
function arrange({ nodes, links }) {
  const spots = nodes.map((node, index) => {
    const old = places.get(node.id);
    if (old) return { ...old };
    const angle = index * 2.399963;
    const radius = index === 0 ? 0 : 60 + 14 * Math.sqrt(index) * 3;
    return { x: WIDTH / 2 + radius * 1.5 * Math.cos(angle), y: HEIGHT / 2 + radius * Math.sin(angle) };
  });
  const room = Math.sqrt(WIDTH * HEIGHT / (nodes.length + 1)) * 0.75;
  for (let step = 0, rounds = nodes.length > 100 ? 60 : 250; step < rounds; step++) {
    const force = spots.map(spot => ({ x: (WIDTH / 2 - spot.x) * 0.02, y: (HEIGHT / 2 - spot.y) * 0.04 }));
    for (let a = 0; a < spots.length; a++) {
      for (let b = a + 1; b < spots.length; b++) {
        const x = spots[a].x - spots[b].x || 0.1, y = spots[a].y - spots[b].y || 0.1;
        const push = room * room / (x * x + y * y);
        force[a].x += x * push; force[a].y += y * push;
        force[b].x -= x * push; force[b].y -= y * push;
      }
    }
    for (const [a, b] of links) {
      const x = spots[b].x - spots[a].x, y = spots[b].y - spots[a].y;
      const pull = Math.hypot(x, y) / room * 0.5;
      force[a].x += x * pull; force[a].y += y * pull;
      force[b].x -= x * pull; force[b].y -= y * pull;
    }
    const most = 40 * (1 - step / rounds);
    spots.forEach((spot, index) => {
      const size = Math.hypot(force[index].x, force[index].y) || 1;
      const scale = Math.min(size * 0.1, most) / size;
      spot.x = Math.min(WIDTH - 70, Math.max(70, spot.x + force[index].x * scale));
      spot.y = Math.min(HEIGHT - 18, Math.max(30, spot.y + force[index].y * scale));
    });
  }
  places = new Map(nodes.map((node, index) => [node.id, spots[index]]));
  return spots;
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
