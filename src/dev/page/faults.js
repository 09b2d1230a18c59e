// Injecting faults into deliveries: what is injected now, and adding to it.

import { ask, byId, make, moveByArrows, setText, showRows, tell } from "./dom.js";

const KINDS = new Map([
  ["duplicate", "deliver twice"],
  ["delay", "deliver up to 2 s late, so that others overtake"],
  ["drop-ack", "lose the answer: it is done, and delivered again"],
  ["late-answer", "answer after the time-out: it is done, and perhaps delivered again"],
  ["500", "fail with 500, without delivering"],
  ["503", "fail with 503, without delivering"],
  ["400", "fail with 400: a dead letter at once"],
]);

function inWords(fault) {
  const [kind, rate, subscription] = fault.split(":");
  return `${KINDS.get(kind) ?? `fail with ${kind}`}: ${Number(rate) * 100} % of ${subscription ? `the deliveries to ${subscription}` : "all deliveries"}`;
}

export class Faults {
  #faults = [];

  constructor(setup) {
    byId("fault-kind").append(...[...KINDS].map(([value, textContent]) => make("option", { value, textContent })));
    byId("fault-function").append(...setup.subscriptions.map(({ name }) => make("option", { value: name, textContent: name })));
    byId("faults").addEventListener("click", () => byId("injector").showModal());
    byId("fault-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const subscription = byId("fault-function").value;
      const rate = Number(byId("fault-rate").value) / 100;
      const fault = `${byId("fault-kind").value}:${rate}${subscription ? `:${subscription}` : ""}`;
      this.#inject([...this.#faults, fault]);
    });
    moveByArrows(byId("fault-list"));
  }

  async load() {
    this.#show((await ask("/faults")).faults);
  }

  async #inject(faults) {
    setText(byId("fault-problem"), "");
    try {
      const now = await ask("/faults", { method: "PUT", headers: { "content-type": "application/json" }, body: JSON.stringify(faults) });
      this.#show(now.faults);
      tell(now.faults.length ? "Faults are injected." : "No fault is injected any more.");
    } catch (problem) {
      setText(byId("fault-problem"), problem.message);
    }
  }

  #show(faults) {
    this.#faults = faults;
    const items = faults.map((fault, index) => ({ fault, key: `${index} ${fault}` }));
    byId("no-faults").hidden = faults.length > 0;
    byId("injected").hidden = faults.length === 0;
    setText(byId("injected"), `Injected: ${faults.map(inWords).join("; ")}.`);
    showRows(byId("fault-list"), items, ({ key }) => key, (item) => this.#row(item.fault), () => {});
  }

  #row(fault) {
    const button = make("button", { type: "button", textContent: "Remove", "aria-label": `Remove: ${inWords(fault)}` });
    button.addEventListener("click", () => {
      const at = this.#faults.indexOf(fault);
      this.#inject(this.#faults.filter((_, index) => index !== at));
    });
    return make("li", {}, make("div", { className: "letter" }, make("span", { className: "grow", textContent: inWords(fault) }), button));
  }
}
