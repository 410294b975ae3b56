// Draws the state from the agent's events.
import { $, copy, link, linked, list, make, pairs, put, size, time } from "./draw.js";
import { showState } from "./state.js";

const STAGES = {
  verified: "verified", checking: "being checked", fetching: "fetching", waiting: "waiting",
  failed: "failed; retried automatically", "left-out": "left out",
};
let folded; // whether the list of models was folded by this script

function model(m) {
  const item = make("li"), row = make("div", undefined, { className: "row" });
  const name = make("span", m.name);
  name.append(" ", make("small", `(${[m.tier, m.license].filter(Boolean).join(", ")})`));
  const stage = make("span", STAGES[m.stage], { className: "stage" });
  stage.dataset.stage = m.stage;
  row.append(name, stage);
  item.append(row);
  const moving = m.stage === "fetching" || m.stage === "checking";
  if (moving && m.size) {
    const bar = make("progress", undefined, { max: m.size, value: m.done });
    bar.setAttribute("aria-label", `${m.name}: ${Math.floor((100 * m.done) / m.size)} percent`);
    item.append(bar);
  }
  const details = [m.size ? (moving ? `${size(m.done)} of ${size(m.size)}` : size(m.size)) : ""];
  if (m.rate) details.push(`${size(m.rate)}/s`);
  if (m.left !== null) details.push(`${time(m.left)} left`);
  if (m.source) details.push(`from ${m.source}`);
  if (m.stage !== "verified" && m.trouble) details.push(m.trouble.why, m.trouble.next_step);
  else if (m.stage !== "verified" && m.message) details.push(m.message);
  item.append(make("small", details.filter(Boolean).join(" · ")));
  return [item];
}

function address(status) {
  // Without a public address, the one that this page was opened with is better than the container's own.
  const own = new URL(status.url);
  return status.public ? status.url : `${location.origin}${own.pathname}`;
}

function connectCard(status, usable) {
  const copyable = usable ? address(status) : "";
  if ($("url").value !== copyable) $("url").value = copyable;
  $("copy").setAttribute("aria-disabled", !usable); // keeps the focus
  $("wait").hidden = usable;
  list("plugin", [status.plugin], (p) => [link(`Krita AI Diffusion ${p.version}`, p.url)]);
  list("steps", status.connect, (step) => {
    const item = make("li");
    item.append(make("b", step.title), ": ", ...linked(step.text));
    return [item];
  });
  list("cost", [status.cost], linked);
  const url = new URL(address(status));
  $("insecure").hidden = url.protocol !== "http:" || /^(localhost|127\.[\d.]+|\[::1\])$/.test(url.hostname);
}

function totals(status, usable) {
  const t = status.totals, rest = status.models.length - t.verified;
  const parts = [`${t.verified} of ${status.models.length} verified`];
  parts.push(rest ? `${size(t.done)} of ${size(t.size)}` : size(t.size));
  if (t.rate) parts.push(`${size(t.rate)}/s`);
  if (t.left !== null) parts.push(`${time(t.left)} left`);
  put("totals", parts.join(", "));
  if (folded !== usable) { // then it is the reader's choice
    folded = usable;
    $("models-fold").open = !usable;
  }
}

function show(status) {
  const usable = status.state === "ready" || status.state === "degraded";
  showState(status);
  connectCard(status, usable);
  totals(status, usable);
  list("models", status.models, model);
  $("editor").hidden = !status.comfyui.up;
  list("workflows", status.workflows, (w) => {
    const file = w.file.replace(/\.api\.json$/, ".json");
    const item = make("li");
    item.append(make("a", w.name, { href: `../userdata/workflows%2F${encodeURIComponent(file)}`, download: file }));
    item.append(make("small", ` in Krita: ${w.name} (${w.client_id})`, { className: "quiet" }));
    return [item];
  });
  const rows = [["ComfyUI", status.comfyui.up ? "running" : status.comfyui.process]];
  for (const gpu of status.gpus) {
    const cpu = gpu.kind === "cpu";
    rows.push([cpu ? "GPU" : gpu.kind, cpu ? "none: running on the CPU, which is very slow" : `${gpu.name}, ${size(gpu.free)} of ${size(gpu.total)} free`]);
  }
  rows.push(["Disk", `${size(status.disk.free)} of ${size(status.disk.total)} free`]);
  rows.push(["Workflows", status.comfyui.published ? "published to Krita" : "not yet published to Krita"]);
  list("machine", rows, pairs);
  list("versions", Object.entries(status.versions), pairs);
  list("errors", status.errors, (e) => [make("li", `${new Date(e.at * 1000).toLocaleTimeString()}: ${e.text}`)]);
  $("errors-card").hidden = status.errors.length === 0;
}

$("copy").addEventListener("click", async () => {
  if ($("copy").getAttribute("aria-disabled") === "true") return;
  const done = await copy($("url"));
  $("copy").textContent = done ? "Copied" : "Press Ctrl+C";
  $("said").textContent = done ? "The address was copied." : "The address is selected: press Control and C.";
  setTimeout(() => { $("copy").textContent = "Copy"; }, 2500);
});

// EventSource stops for good on a response other than 200, such as the gate's while the agent restarts.
function connect() {
  const source = new EventSource("events");
  source.addEventListener("status", (event) => { $("lost").hidden = true; show(JSON.parse(event.data)); });
  source.addEventListener("error", () => {
    $("lost").hidden = false;
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  });
}
connect();
