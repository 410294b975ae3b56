// The card at the top: the state, the progress that people wait for, and what is wrong.
import { $, about, list, make, pairs, put, size } from "./draw.js";

const WORDS = { // for artists; the agent's own words are for the operator, and in status.json
  failed: "Krita cannot work with this instance yet.",
  fetching: "The models that Krita needs are being downloaded.",
  degraded: "Krita can work, but not everything is as it should be.",
};
let announced = "";

function tabTitle(status) {
  const p = status.progress;
  if (status.state !== "fetching" || p.percent === null) return `${status.state} · ${status.title} · gesso`;
  const left = p.left === null ? [] : [about(p.left)];
  return [`${Math.min(99, p.percent)} %`, ...left, "gesso"].join(" · ");
}

function progress(status) {
  const p = status.progress, moving = status.state === "fetching" || (status.state === "failed" && p.rate > 0);
  const shown = moving && p.size > 0;
  $("whole").hidden = !shown;
  if (!shown) return;
  const parts = [`${Math.min(99, p.percent)} %`, `${size(p.done)} of ${size(p.size)}`];
  if (p.left !== null) parts.push(`about ${about(p.left)} left`);
  if (p.rate) parts.push(`${size(p.rate)}/s`);
  put("whole-text", parts.join(" · "));
  Object.assign($("whole-bar"), { max: p.size, value: p.done });
}

function problem(p) {
  const item = make("li", p.artist);
  if (!p.names.length) return [item];
  const fold = make("details");
  fold.append(make("summary", p.names.length === 1 ? "Which model" : `Which ${p.names.length} models`));
  fold.append(make("p", p.names.join(", "), { className: "quiet" }));
  item.append(fold);
  return [item];
}

function operator(status) {
  const rows = [["State", `${status.state}: ${status.why}`]];
  if (status.next) rows.push(["Next", status.next]);
  for (const p of status.problems) {
    const count = p.names.length ? `${p.count} ${p.count === 1 ? "model" : "models"}: ` : "";
    rows.push(["Problem", `${count}${p.cause}${p.operator === p.cause ? "" : ` (${p.operator})`}`]);
    if (p.next && p.next !== status.next) rows.push(["Next", p.next]);
  }
  for (const note of status.notes) rows.push(["Note", note]);
  return rows;
}

export function showState(status) {
  const wrong = status.problems.length > 0;
  document.title = tabTitle(status);
  put("title", status.title);
  $("trial").hidden = !status.trial;
  put("state", status.state);
  $("state").dataset.state = status.state;
  put("why", WORDS[status.state] ?? status.why);
  put("next", status.next && !wrong ? `What to do: ${status.next}` : "");
  progress(status);
  list("problems", status.problems, problem);
  $("problems").hidden = !wrong;
  list("notes", wrong ? [] : status.notes, (note) => [make("li", note)]);
  $("notes").hidden = wrong || status.notes.length === 0;
  $("operator").hidden = !wrong;
  if (wrong) list("operator-rows", operator(status), pairs);
  if (announced !== status.state) {
    announced = status.state;
    $("said").textContent = `${status.state}: ${$("why").textContent}`;
  }
}
