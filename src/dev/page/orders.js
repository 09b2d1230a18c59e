// The list of orders, and the timeline of one.

import { ask, atMostEvery, byId, make, moveByArrows, orderOf, setText, showRows, shortName, span, tell, timeOfDay, typeOf } from "./dom.js";
import { deliveryLines } from "./events.js";

const LISTED = 30;

const GOOD = new Set(["completed", "shipped"]);
const BAD = new Set(["needsAttention"]);
const OVER = new Set(["cancelled", "refunded"]);

/** The status as words: `awaitingPayment` is "awaiting payment". */
const words = (status) => String(status).replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

function badge(status) {
  const kind = GOOD.has(status) ? "good" : BAD.has(status) ? "bad" : OVER.has(status) ? "" : "wait";
  return { className: `badge ${kind}`.trim(), text: words(status) };
}

export class Orders {
  #events;
  #selected = null;
  // Questions are numbered, so that no answer is shown after that to a later question.
  #asked = 0;
  #listShown = 0;
  #detailShown = 0;
  #list;
  #detail;

  constructor(events) {
    this.#events = events;
    this.#list = atMostEvery(400, () => this.load());
    this.#detail = atMostEvery(400, () => this.#loadDetail());
    moveByArrows(byId("order-list"));
  }

  report(report) {
    const order = orderOf(report.subject);
    if (order === null) return;
    this.#list();
    if (order === this.#selected) this.#detail();
  }

  async load() {
    const empty = byId("no-orders");
    const asked = ++this.#asked;
    try {
      const { orders } = await ask(`/api/orders?limit=${LISTED}`);
      if (asked < this.#listShown) return;
      this.#listShown = asked;
      setText(empty, "No order yet. “Place an order” sends the first one.");
      empty.hidden = orders.length > 0;
      showRows(byId("order-list"), orders, (order) => order.orderId, (order) => this.#row(order), (row, order) => this.#update(row, order));
    } catch (problem) {
      empty.hidden = false;
      setText(empty, `The list of orders cannot be had: ${problem.message}`);
    }
  }

  #row(order) {
    const button = make("button", { type: "button", "aria-controls": "order", onclick: () => this.select(order.orderId) },
      make("time", { textContent: timeOfDay(order.placedAt).slice(0, 8) }),
      make("span", { className: "grow id", textContent: order.orderId }),
      make("span"));
    return make("li", {}, button);
  }

  #update(row, order) {
    const { className, text } = badge(order.status);
    const status = row.querySelector("span:last-child");
    status.className = className;
    setText(status, text);
    row.firstChild.setAttribute("aria-expanded", String(order.orderId === this.#selected));
  }

  /** Shows the timeline of this order, or hides it if it is shown. */
  select(id) {
    this.#selected = this.#selected === id ? null : id;
    for (const row of byId("order-list").children) {
      row.firstChild.setAttribute("aria-expanded", String(row.dataset.key === this.#selected));
    }
    byId("order").hidden = true;
    if (this.#selected !== null) this.#loadDetail();
  }

  /** Shows the timeline of this order and keeps it so. */
  show(id) {
    if (this.#selected !== id) this.select(id);
  }

  async #loadDetail() {
    const id = this.#selected;
    if (id === null) return;
    const asked = ++this.#asked;
    const both = await Promise.allSettled([
      ask(`/api/orders/${encodeURIComponent(id)}`),
      ask(`/events?limit=1000&subject=${encodeURIComponent(`orders/${id}`)}`),
    ]);
    if (asked < this.#detailShown || id !== this.#selected) return;
    this.#detailShown = asked;
    const [order, events] = both.map((one) => one.value);
    this.#showDetail(id, order, events?.events ?? [], both[0].reason);
  }

  #showDetail(id, order, events, problem) {
    const focused = document.activeElement?.dataset?.number;
    const box = byId("order");
    const status = badge(order?.status ?? "unknown");
    const cancel = order && !GOOD.has(order.status) && !OVER.has(order.status) && !order.cancelRequested
      ? make("button", { type: "button", textContent: "Cancel the order", onclick: () => this.#cancel(id) })
      : null;
    const legs = Object.entries(order?.legs ?? {}).map(([leg, state]) =>
      make("div", {}, make("dt", { textContent: leg }), make("dd", { textContent: words(state) })));
    const awaiting = order?.awaiting?.length
      ? make("p", { className: "small", textContent: `awaits ${order.awaiting.join(", ")}` })
      : null;
    box.replaceChildren(
      make("div", { className: "head" },
        make("h3", { textContent: `Order ${id.slice(-8)}` }),
        make("span", { className: status.className, textContent: status.text }), cancel),
      ...(problem ? [make("p", { className: "problem", textContent: problem.message })] : []),
      make("dl", {}, ...legs),
      ...(awaiting ? [awaiting] : []),
      this.#timeline(order?.history ?? [], events));
    box.hidden = false;
    if (focused) box.querySelector(`[data-number="${focused}"]`)?.focus();
  }

  /** Events as the grid accepted them, with what the order itself notes of each; a replayed event stands where it came first. */
  #timeline(history, events) {
    const notes = new Map(history.map((note) => [note.id, note]));
    const entries = new Map();
    for (const { number, acceptedAt, event, deliveries } of events) {
      const entry = entries.get(event.id) ?? { number, time: acceptedAt, name: shortName(typeOf(event)), deliveries: [], times: 0 };
      entry.times += 1;
      entry.deliveries.push(...deliveries);
      entries.set(event.id, entry);
    }
    for (const note of history) {
      if (!entries.has(note.id)) entries.set(note.id, { number: null, time: note.time, name: note.event, deliveries: [], times: 1 });
    }
    const sorted = [...entries].sort(([, one], [, other]) => Date.parse(one.time) - Date.parse(other.time));
    const start = sorted.length ? Date.parse(sorted[0][1].time) : 0;
    const items = sorted.map(([id, entry]) => {
      const after = Date.parse(entry.time) - start;
      const name = entry.number === null
        ? make("strong", { textContent: entry.name })
        : make("button", { type: "button", textContent: entry.name, title: "Inspect the event", "data-number": entry.number,
          onclick: () => this.#events.inspect(entry.number) });
      return make("li", {},
        make("div", { className: "what" },
          make("time", { textContent: after ? `+${span(after)}` : timeOfDay(entry.time) }), name,
          make("span", { className: "small", textContent: [notes.get(id)?.detail, entry.times > 1 ? `accepted ${entry.times} times` : null].filter(Boolean).join(", ") })),
        make("ul", { className: "deliveries" }, ...deliveryLines(entry.deliveries)));
    });
    return make("ol", { className: "timeline", "aria-label": "Timeline" }, ...items);
  }

  async #cancel(id) {
    try {
      await ask(`/api/orders/${encodeURIComponent(id)}/cancel`, { method: "POST" });
      tell("The order is to be cancelled.");
    } catch (problem) {
      tell(`The order is not cancelled: ${problem.message}`);
    }
  }
}
