// Placing orders and firing events.

import { ask, byId, make, setText, shortName, tell } from "./dom.js";

const JSON_TYPE = { "content-type": "application/json" };

export class Sending {
  #setup;
  #orders;
  #send = async () => {};

  constructor(setup, orders) {
    this.#setup = setup;
    this.#orders = orders;
    byId("place").addEventListener("click", async () => {
      try {
        await this.#place(setup.samples.order);
      } catch (problem) {
        tell(`The order is not placed: ${problem.message}`);
      }
    });
    byId("place-other").addEventListener("click", () => this.#openOrder());
    byId("fire").addEventListener("click", () => this.#openEvent());
    byId("sender-type").append(...setup.samples.events.map(({ type }) => make("option", { value: type, textContent: shortName(type) })));
    byId("sender-type").addEventListener("change", () => this.#showSample());
    byId("sender-order").addEventListener("change", () => this.#showSample());
    byId("sender-form").addEventListener("submit", (event) => this.#submit(event));
  }

  async #place(json) {
    const { orderId } = await ask("/api/orders", { method: "POST", headers: JSON_TYPE, body: json });
    tell(`Order ${orderId.slice(-8)} is placed.`);
    this.#orders.show(orderId);
    await this.#orders.load();
  }

  async #fire(json) {
    const event = JSON.parse(json);
    await ask("/api/events?api-version=2018-01-01", {
      method: "POST",
      headers: { "content-type": "application/cloudevents+json", "aeg-sas-key": this.#setup.key },
      body: json,
    });
    tell(`${shortName(String(event.type))} is accepted.`);
  }

  #openOrder() {
    this.#open("Place an order", "The order as POST /api/orders takes it", "Place it", false);
    byId("sender-json").value = this.#setup.samples.order.trim();
    this.#send = (json) => this.#place(json);
  }

  #openEvent() {
    this.#open("Fire an event", "The event, which the topic accepts as if a function had published it", "Fire it", true);
    byId("sender-order").value = crypto.randomUUID();
    this.#showSample();
    this.#send = (json) => this.#fire(json);
  }

  #open(title, label, action, withType) {
    setText(byId("sender-title"), title);
    setText(byId("sender-json-label"), label);
    setText(byId("sender-send"), action);
    setText(byId("sender-problem"), "");
    byId("sender-type-line").hidden = !withType;
    byId("sender-order-line").hidden = !withType;
    byId("sender").showModal();
  }

  /** The sample of the chosen type about the chosen order, with an id of its own so that no function knows it already. */
  #showSample() {
    const { events, orderId } = this.#setup.samples;
    const sample = events.find(({ type }) => type === byId("sender-type").value);
    if (!sample) return;
    const order = byId("sender-order").value.trim() || orderId;
    const event = JSON.parse(sample.json.replaceAll(orderId, order));
    event.id = crypto.randomUUID();
    event.time = new Date().toISOString();
    byId("sender-json").value = JSON.stringify(event, null, 2);
  }

  async #submit(event) {
    event.preventDefault();
    byId("sender-send").disabled = true;
    try {
      const json = byId("sender-json").value;
      JSON.parse(json);
      await this.#send(json);
      byId("sender").close();
    } catch (problem) {
      setText(byId("sender-problem"), problem.message);
    }
    byId("sender-send").disabled = false;
  }
}
