// Helpers of the page's scripts. Text nodes only: data from the server is never inserted as HTML.

export const $ = (id) => document.getElementById(id);

export function size(n) {
  for (const [unit, step] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) if (n >= step) return `${(n / step).toFixed(1)} ${unit}`;
  return `${Math.round(n)} B`;
}

export function time(seconds) {
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  return s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

// In whole minutes: a time that people wait for, and that changes with every measurement.
export function about(seconds) {
  const minutes = Math.max(1, Math.round(seconds / 60));
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function make(tag, text, properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) element.textContent = text;
  return element;
}

export function link(text, href) {
  return make("a", text, { href, target: "_blank", rel: "noopener noreferrer" });
}

// The text as nodes; addresses in it become links.
export function linked(text) {
  return text.split(/(https:\/\/[^\s)]+)/).map((part, n) => (n % 2 ? link(part, part) : document.createTextNode(part)));
}

export function put(id, text) {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
  element.hidden = text === "";
}

// Redraw a list only when it changed, so that focus and selection stay.
export function list(id, items, draw) {
  const parent = $(id), key = JSON.stringify(items);
  if (parent.dataset.drawn === key) return;
  parent.dataset.drawn = key;
  parent.replaceChildren(...items.flatMap(draw));
}

// Terms and what they say, for a dl.
export const pairs = ([term, text]) => [make("dt", term), make("dd", text)];

// Copy the text of an input or of any other element; without HTTPS there is no clipboard API.
export async function copy(element) {
  if (element.select) element.select();
  else getSelection().selectAllChildren(element);
  try {
    await navigator.clipboard.writeText(element.value ?? element.textContent);
    return true;
  } catch {
    return document.execCommand("copy");
  }
}
