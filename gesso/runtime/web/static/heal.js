// Self-Heal: a check that changes nothing, its plan, one question, the repair, and the report.
// The heal runs in its own process: this page requests it and shows its journal, no matter who started it.
import { $, list, make, put, size, time } from "./draw.js";

const RETRY = 2000, REFRESH = 10000; // milliseconds
const KINDS = {
  python: "Python", code: "ComfyUI", pack: "Node pack", config: "Settings", layout: "Folders", workflow: "Workflow",
  model: "Model",
};
const PARTS = {
  python: "Python packages", code: "ComfyUI and its node packs", config: "settings", workflows: "workflows",
  models: "models",
};
const OUTCOMES = {
  planned: "to be repaired", repairing: "being repaired", repaired: "repaired", failed: "not repaired",
  left: "left as it is",
};

let shown = null; // the heal on the page
let items = new Map(); // what it found, by kind and name
let source = null, after = 0; // its event stream, and the id of the last event read
let mine = ""; // the check that this page requested: its plan opens the dialog
let busy = false; // a request is pending

const key = (d) => `${d.kind} ${d.name}`;
const many = (n, one, more) => `${n} ${n === 1 ? one : more}`;
const running = () => shown?.state === "running";
const repairable = () => [...items.values()].filter((d) => d.repairable !== false);
const when = (at) => new Date(at * 1000).toLocaleString();

function announce(text) {
  $("heal-said").textContent = text;
}

function item(d) {
  const one = make("li"), row = make("div", undefined, { className: "row" });
  const outcome = d.outcome ?? "planned";
  const stage = make("span", d.repairable === false && outcome === "planned" ? "needs action" : OUTCOMES[outcome] ?? outcome, { className: "stage" });
  stage.dataset.stage = d.repairable === false ? "left" : outcome;
  row.append(make("span", `${KINDS[d.kind] ?? d.kind}: ${d.name}`), stage);
  one.append(row, make("small", d.found));
  const next = d.next || d.next_step;
  const details = outcome === "failed" || outcome === "left" || d.repairable === false
    ? [d.why, next && `What to do: ${next}`]
    : [outcome === "repaired" ? d.said || d.remedy : d.remedy && `Remedy: ${d.remedy}`, d.size && outcome === "planned" && `${size(d.size)} to fetch`];
  const more = details.filter(Boolean).join(" · ");
  if (more) one.append(make("br"), make("small", more));
  if (outcome === "repairing" && d.done && d.size) {
    const bar = make("progress", undefined, { max: d.size, value: d.done });
    bar.setAttribute("aria-label", `${d.name}: ${Math.floor((100 * d.done) / d.size)} percent`);
    one.append(bar);
  }
  return [one];
}

function cost() {
  const todo = repairable();
  const bytes = todo.reduce((sum, d) => sum + (d.size ?? 0), 0);
  const open = todo.some((d) => d.kind === "model" && !d.size);
  const fetch = bytes ? `${open ? "At least " : ""}${size(bytes)} will be fetched.` : open ? "Models will be fetched." : "Nothing has to be fetched.";
  const restart = todo.some((d) => d.restart)
    ? "ComfyUI is restarted once: an image that is being generated then is lost."
    : "ComfyUI is not restarted.";
  return `${fetch} ${restart}`;
}

function headline(heal) {
  const found = items.size, failed = [...items.values()].filter((d) => d.outcome !== "repaired").length;
  if (heal.state === "none") return "It has not been used on this instance yet.";
  if (heal.state === "interrupted") return heal.summary;
  if (heal.state === "running") return heal.dry_run ? "Checking; nothing is changed." : "Checking again, then repairing.";
  if (!found) return heal.ok === false ? heal.summary : "Nothing is wrong.";
  if (heal.dry_run) return `${many(found, "thing is", "things are")} not as they should be. Nothing was changed.`;
  return failed ? `${found - failed} of ${many(found, "thing", "things")} repaired.` : `${many(found, "thing", "things")} repaired.`;
}

function tail(heal) {
  if (heal.state !== "done") return "";
  const parts = [when(heal.ended ?? heal.begun)];
  if (heal.seconds) parts.push(`took ${time(heal.seconds)}`);
  if (heal.fetched) parts.push(`${size(heal.fetched)} fetched`);
  if (!heal.dry_run && items.size) {
    const restarted = Array.isArray(heal.restarted) ? heal.restarted.length > 0 : Boolean(heal.restarted);
    parts.push(restarted ? "ComfyUI was restarted" : "ComfyUI was not restarted");
  }
  return ` (${parts.join(", ")})`;
}

function draw() {
  const pending = shown.state === "done" && shown.dry_run && repairable().length > 0;
  put("heal-text", headline(shown) + tail(shown));
  $("heal-repair").hidden = !pending;
  $("heal-work").hidden = !running();
  for (const id of ["heal-check", "heal-repair"]) $(id).setAttribute("aria-disabled", running() || busy); // keeps the focus
  list("heal-items", [...items.values()], item);
  $("heal-items").hidden = items.size === 0;
  const notes = shown.notes ?? [];
  list("heal-notes", notes, (note) => [make("li", note)]);
  $("heal-notes").hidden = notes.length === 0;
}

function bar(text, done, of) {
  put("heal-doing", text);
  const element = $("heal-bar");
  if (of) Object.assign(element, { max: of, value: done });
  else element.removeAttribute("value");
}

// One handler per journal event. Unknown events are ignored: a later gesso may send more.
const HANDLERS = {
  asked: (e) => { Object.assign(shown, { dry_run: e.dry_run }); },
  begun: (e) => { Object.assign(shown, { by: e.by, dry_run: e.dry_run, begun: e.at }); bar("Starting"); },
  examining: (e) => bar(`Checking ${PARTS[e.what] ?? e.what}`),
  progress: (e) => bar(`Checking ${PARTS[e.what] ?? e.what}: ${size(e.done)} of ${size(e.size)}`, e.done, e.size),
  found: (e) => items.set(key(e.damage), { ...e.damage }),
  planned: (e) => { bar("Plan ready"); announce(`${many(items.size, "thing is", "things are")} not as they should be.`); },
  repairing: (e) => { mark(e, { outcome: "repairing" }); bar(`Repairing ${e.name}`); },
  repaired: (e) => { mark(e, { outcome: "repaired", said: e.said }); announce(`${e.name}: repaired`); },
  failed: (e) => { mark(e, { outcome: "failed", why: e.why, next: e.next }); announce(`${e.name}: not repaired`); },
  model: (e) => {
    mark({ kind: "model", name: e.name }, { done: e.done, size: e.size });
    if (e.kind === "progress") bar(`Fetching ${e.name}: ${size(e.done)} of ${size(e.size)}`, e.done, e.size);
  },
  restarting: (e) => { bar(`Restarting ${e.what}: ${e.why}`); announce(`Restarting ${e.what}`); },
  waiting: (e) => bar(`Waiting for ${e.what}`),
};

function mark(e, change) {
  const d = items.get(key(e));
  if (!d) return;
  for (const [name, value] of Object.entries(change)) if (value !== undefined && value !== null) d[name] = value;
}

async function get(path) {
  const answer = await fetch(path, { cache: "no-store" });
  const body = await answer.json().catch(() => ({}));
  return { status: answer.status, body };
}

function leave() {
  source?.close();
  source = null;
}

// EventSource reconnects by itself, with the id of the last event. On a response other than 200, such as the gate's
// while the agent restarts, it stops: then query the current heal and resume from the same position.
function follow(id, dry) {
  leave();
  if (shown?.id !== id) {
    shown = { id, state: "running", dry_run: dry };
    items = new Map();
    after = 0;
    bar("Starting");
  }
  $("heal-trouble").hidden = true;
  draw();
  source = new EventSource(`api/heal/${id}/events?after=${after}`);
  source.onopen = () => { $("heal-lost").hidden = true; };
  source.onmessage = (message) => {
    const event = JSON.parse(message.data);
    after = Number(message.lastEventId);
    HANDLERS[event.event]?.(event);
    draw();
  };
  source.addEventListener("end", () => { leave(); refresh(true); });
  source.onerror = () => {
    $("heal-lost").hidden = false;
    if (source?.readyState === EventSource.CLOSED) { leave(); setTimeout(() => refresh(true), RETRY); }
  };
}

// Query the current heal; with `insist`, retry until there is a response.
async function refresh(insist) {
  let found;
  try {
    found = await get("api/heal");
  } catch {
    found = { status: 0 };
  }
  if (source || busy) return;
  if (found.status !== 200) {
    if (insist) { $("heal-lost").hidden = false; setTimeout(() => refresh(true), RETRY); }
    return;
  }
  $("heal-lost").hidden = true;
  const heal = found.body;
  if (heal.state === "running") return follow(heal.id, heal.dry_run);
  const news = running();
  if (!news && shown?.id === heal.id && shown?.state === heal.state) return;
  shown = heal;
  items = new Map((heal.damages ?? []).map((d) => [key(d), d]));
  draw();
  if (news) announce(headline(heal));
  if (heal.id === mine && heal.dry_run && repairable().length) confirmRepair();
  if (heal.id === mine) mine = "";
}

async function start(dry) {
  if (busy || running()) return;
  busy = true;
  $("heal-trouble").hidden = true;
  announce(dry ? "Checking" : "Repairing");
  let answer;
  try {
    const request = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ dry_run: dry }) };
    const response = await fetch("api/heal", request);
    answer = { status: response.status, body: await response.json() };
  } catch {
    answer = { status: 0, body: { error: "the instance does not answer", next: "try again in a few seconds" } };
  }
  busy = false;
  const { status, body } = answer;
  if (status === 202) {
    if (dry) mine = body.id;
    return follow(body.id, dry);
  }
  if (status === 409 && body.id) follow(body.id);
  const trouble = status === 409 ? "Another heal was already running; it is shown here." : `${body.error}. What to do: ${body.next}`;
  put("heal-trouble", trouble);
  announce(trouble);
}

function confirmRepair() {
  list("ask-items", [...items.values()], item);
  put("ask-cost", cost());
  $("ask").returnValue = "no";
  $("ask").showModal();
}

$("heal-check").addEventListener("click", () => start(true));
$("heal-repair").addEventListener("click", () => { if (!running() && !busy) confirmRepair(); });
$("ask").addEventListener("close", () => {
  $("heal-check").focus();
  if ($("ask").returnValue === "yes") start(false);
});
setInterval(() => { if (!source && !document.hidden && !running()) refresh(false); }, REFRESH);
document.addEventListener("visibilitychange", () => { if (!source && !document.hidden && !running()) refresh(false); });
refresh(true);
