// Building and updating the page. Text is always set as text, never as HTML: events come from anywhere.

export const byId = (id) => document.getElementById(id);

/** An element with these properties (names with a hyphen are attributes) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Sets text only where it differs, so that a list that hardly changes costs hardly anything. */
export function setText(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

/** Makes the list show these items: rows are kept by key, so the focus stays where it is. */
export function showRows(list, items, keyOf, create, update) {
  const known = new Map([...list.children].map((row) => [row.dataset.key, row]));
  items.forEach((item, index) => {
    const key = String(keyOf(item));
    let row = known.get(key);
    if (row) known.delete(key);
    else {
      row = create(item);
      row.dataset.key = key;
    }
    update(row, item);
    if (list.children[index] !== row) list.insertBefore(row, list.children[index] ?? null);
  });
  for (const row of known.values()) row.remove();
}

/** Arrow keys, Home and End move among the buttons of a list. */
export function moveByArrows(list) {
  list.addEventListener("keydown", (event) => {
    const buttons = [...list.querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (at < 0 || to === undefined || !buttons[to]) return;
    event.preventDefault();
    buttons[to].focus();
  });
}

/** Tells the outcome of an action, also to screen readers. */
export function tell(text) {
  setText(byId("message"), text);
}

/** Asks the grid; throws an Error with its reason unless it says yes. */
export async function ask(path, options = {}) {
  const answer = await fetch(path, options);
  const text = await answer.text();
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    // Not JSON: the text itself is the reason.
  }
  if (!answer.ok) throw new Error(body?.detail ?? body?.error?.message ?? (text || `status ${answer.status}`));
  return body;
}

export const shortName = (type) => type.replace(/^Sales\./, "");

/** The type of an event in either schema. */
export const typeOf = (event) => String(event.type ?? event.eventType ?? "");

export const orderOf = (subject) => (subject?.startsWith("orders/") ? subject.slice("orders/".length) : null);

/** The time of day with milliseconds, of a date or what Date can read. */
export function timeOfDay(time) {
  const date = new Date(time);
  const two = (number) => String(number).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** A span in the unit that a person would use. */
export function span(milliseconds) {
  if (milliseconds < 10) return `${milliseconds.toFixed(1)} ms`;
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 60_000) return `${(milliseconds / 1000).toFixed(1)} s`;
  if (milliseconds < 3_600_000) return `${(milliseconds / 60_000).toFixed(1)} min`;
  return `${(milliseconds / 3_600_000).toFixed(1)} h`;
}

/**
 * Calls `work` soon after `later()` was called, however often: at most once per `interval` milliseconds, and never before
 * the last call has ended.
 */
export function atMostEvery(interval, work) {
  let busy = false;
  let again = false;
  let last = -interval;
  function plan() {
    busy = true;
    const wait = Math.max(0, last + interval - performance.now());
    setTimeout(() => requestAnimationFrame(run), wait);
  }
  async function run() {
    again = false;
    last = performance.now();
    try {
      await work();
    } catch (problem) {
      tell(problem.message);
    }
    busy = false;
    if (again) plan();
  }
  return function later() {
    if (busy) again = true;
    else plan();
  };
}
