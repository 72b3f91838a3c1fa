// The same in Node, by its built-in modules: prints a label for every event of product.
"use strict";

const fs = require("node:fs");

const URL_ = process.env.MESH_EVENTS_URL;

async function ask(method, url, body) {
  for (;;) {
    const token = JSON.parse(fs.readFileSync(process.env.MESH_TOKEN_FILE, "utf8")).bus;
    const headers = {
      authorization: `Bearer ${token}`,
      "content-type": "application/cloudevents+json",
    };
    try {
      const answer = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
      if (answer.ok) return await answer.json();
      if (answer.status < 500) process.exit(1);
    } catch {}
    await new Promise((done) => setTimeout(done, 50));
  }
}

async function main() {
  let after = "";
  for (;;) {
    const events = await ask("GET", `${URL_}?consumer=labels&type=product.*&wait=5&after=${after}`);
    for (const event of events) {
      await ask("POST", `${URL_}/labels.printed`, {
        specversion: "1.0",
        id: `label of ${event.id}`,
        source: "/labels",
        type: "labels.printed",
        subject: event.subject,
        causationid: event.id,
        data: { of: event.id, what: event.type },
      });
      after = event.position;
    }
  }
}

main();
