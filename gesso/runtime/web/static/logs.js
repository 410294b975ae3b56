// The log viewer: the end of one log, on request or as it grows. The agent removes secrets before it sends a line.
import { $, copy, list, make, put } from "./draw.js";

const LINES = 200, FOLLOW = 2000; // lines; milliseconds
let timer = 0;

async function get(path) {
  const answer = await fetch(path, { cache: "no-store" });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error);
  return body;
}

async function refresh() {
  clearTimeout(timer);
  try {
    const { logs } = await get("api/logs");
    const chosen = $("log-name").value;
    list("log-name", logs, (name) => [make("option", name)]);
    if (logs.includes(chosen)) $("log-name").value = chosen;
    const name = $("log-name").value;
    if (name) show((await get(`api/logs/${encodeURIComponent(name)}?lines=${LINES}`)).lines);
    put("log-trouble", name ? "" : "There are no logs yet.");
  } catch {
    put("log-trouble", "The log cannot be read at the moment.");
  }
  if ($("log-follow").checked && $("logs-fold").open) timer = setTimeout(refresh, FOLLOW);
}

function show(lines) {
  const box = $("log-text"), text = lines.length ? lines.join("\n") : "This log is empty.";
  if (box.textContent === text) return; // a selection stays
  box.textContent = text;
  box.scrollTop = box.scrollHeight;
}

$("logs-fold").addEventListener("toggle", () => { if ($("logs-fold").open) refresh(); });
$("log-name").addEventListener("change", refresh);
$("log-refresh").addEventListener("click", refresh);
$("log-follow").addEventListener("change", refresh);
$("log-copy").addEventListener("click", async () => {
  $("log-said").textContent = (await copy($("log-text"))) ? "The lines were copied." : "The lines are selected: press Control and C.";
});
