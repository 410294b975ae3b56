// Self-Heal: a check that changes nothing, its plan, one question, the repair, and the report.
// The heal is a process of its own: this page only asks for it and shows its journal, whoever started it.
import { $, list, make, put, size, time } from "./draw.js";

const AGAIN = 2000, LOOK = 10000; // milliseconds
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
let source = null, after = 0; // its events, and how far they were read
let mine = ""; // the check that this page asked for: its plan leads to the question
let busy = false; // a request is on its way

const key = (d) => `${d.kind} ${d.name}`;
const many = (n, one, more) => `${n} ${n === 1 ? one : more}`;
const running = () => shown?.state === "running";
const repairable = () => [...items.values()].filter((d) => d.repairable !== false);
const when = (at) => new Date(at * 1000).toLocaleString();

function say(text) {
  $("heal-said").textContent = text;
}

function item(d) {
  const one = make("li"), row = make("div", undefined, { className: "row" });
  const outcome = d.outcome ?? "planned";
  const stage = make("span", d.repairable === false && outcome === "planned" ? "needs you" : OUTCOMES[outcome] ?? outcome, { className: "stage" });
  stage.dataset.stage = d.repairable === false ? "left" : outcome;
  row.append(make("span", `${KINDS[d.kind] ?? d.kind}: ${d.name}`), stage);
  one.append(row, make("small", d.found));
  const next = d.next || d.next_step;
  const said = outcome === "failed" || outcome === "left" || d.repairable === false
    ? [d.why, next && `What to do: ${next}`]
    : [outcome === "repaired" ? d.said || d.remedy : d.remedy && `Remedy: ${d.remedy}`, d.size && outcome === "planned" && `${size(d.size)} to fetch`];
  const more = said.filter(Boolean).join(" · ");
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
    ? "ComfyUI is restarted once: an image that is being made then is lost."
    : "ComfyUI is not restarted.";
  return `${fetch} ${restart}`;
}

function headline(heal) {
  const found = items.size, failed = [...items.values()].filter((d) => d.outcome !== "repaired").length;
  if (heal.state === "none") return "It was not used on this instance yet.";
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
    const again = Array.isArray(heal.restarted) ? heal.restarted.length > 0 : Boolean(heal.restarted);
    parts.push(again ? "ComfyUI was restarted" : "ComfyUI was not restarted");
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

// One line of the journal. What is not known here is passed over: a later gesso may tell more.
const TAKE = {
  asked: (e) => { Object.assign(shown, { dry_run: e.dry_run }); },
  begun: (e) => { Object.assign(shown, { by: e.by, dry_run: e.dry_run, begun: e.at }); bar("Begins"); },
  examining: (e) => bar(`Looks at the ${PARTS[e.what] ?? e.what}`),
  progress: (e) => bar(`Looks at the ${PARTS[e.what] ?? e.what}: ${size(e.done)} of ${size(e.size)}`, e.done, e.size),
  found: (e) => items.set(key(e.damage), { ...e.damage }),
  planned: (e) => { bar("Knows what to do"); say(`${many(items.size, "thing is", "things are")} not as they should be.`); },
  repairing: (e) => { mark(e, { outcome: "repairing" }); bar(`Repairs ${e.name}`); },
  repaired: (e) => { mark(e, { outcome: "repaired", said: e.said }); say(`${e.name}: repaired`); },
  failed: (e) => { mark(e, { outcome: "failed", why: e.why, next: e.next }); say(`${e.name}: not repaired`); },
  model: (e) => {
    mark({ kind: "model", name: e.name }, { done: e.done, size: e.size });
    if (e.kind === "progress") bar(`Fetches ${e.name}: ${size(e.done)} of ${size(e.size)}`, e.done, e.size);
  },
  restarting: (e) => { bar(`Restarts ${e.what}: ${e.why}`); say(`Restarts ${e.what}`); },
  waiting: (e) => bar(`Waits for ${e.what}`),
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

// EventSource comes again by itself after a cut, with the id of the last event. On an answer that is not 200, such as
// the gate's while the agent restarts, it gives up: then we ask what there is now, and go on from the same place.
function follow(id, dry) {
  leave();
  if (shown?.id !== id) {
    shown = { id, state: "running", dry_run: dry };
    items = new Map();
    after = 0;
    bar("Begins");
  }
  $("heal-trouble").hidden = true;
  draw();
  source = new EventSource(`api/heal/${id}/events?after=${after}`);
  source.onopen = () => { $("heal-lost").hidden = true; };
  source.onmessage = (message) => {
    const event = JSON.parse(message.data);
    after = Number(message.lastEventId);
    TAKE[event.event]?.(event);
    draw();
  };
  source.addEventListener("end", () => { leave(); look(true); });
  source.onerror = () => {
    $("heal-lost").hidden = false;
    if (source?.readyState === EventSource.CLOSED) { leave(); setTimeout(() => look(true), AGAIN); }
  };
}

// Ask which heal there is, until there is an answer. `ended`: the one that was followed has told its end.
async function look(insist) {
  let found;
  try {
    found = await get("api/heal");
  } catch {
    found = { status: 0 };
  }
  if (source || busy) return;
  if (found.status !== 200) {
    if (insist) { $("heal-lost").hidden = false; setTimeout(() => look(true), AGAIN); }
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
  if (news) say(headline(heal));
  if (heal.id === mine && heal.dry_run && repairable().length) ask();
  if (heal.id === mine) mine = "";
}

async function start(dry) {
  if (busy || running()) return;
  busy = true;
  $("heal-trouble").hidden = true;
  say(dry ? "Checking" : "Repairing");
  let answer;
  try {
    const wish = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ dry_run: dry }) };
    const said = await fetch("api/heal", wish);
    answer = { status: said.status, body: await said.json() };
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
  const trouble = status === 409 ? "Another heal was at work already; this is it." : `${body.error}. What to do: ${body.next}`;
  put("heal-trouble", trouble);
  say(trouble);
}

function ask() {
  list("ask-items", [...items.values()], item);
  put("ask-cost", cost());
  $("ask").returnValue = "no";
  $("ask").showModal();
}

$("heal-check").addEventListener("click", () => start(true));
$("heal-repair").addEventListener("click", () => { if (!running() && !busy) ask(); });
$("ask").addEventListener("close", () => {
  $("heal-check").focus();
  if ($("ask").returnValue === "yes") start(false);
});
setInterval(() => { if (!source && !document.hidden && !running()) look(false); }, LOOK);
document.addEventListener("visibilitychange", () => { if (!source && !document.hidden && !running()) look(false); });
look(true);
