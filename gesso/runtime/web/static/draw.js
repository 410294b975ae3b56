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

export function make(tag, text, properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) element.textContent = text;
  return element;
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
