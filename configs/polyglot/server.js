// A service in Node without a single package: what any program needs to be one of a mesh.
//
// It finds its world in the environment: PORT or descriptor 3 to listen on, MESH_URL_<PEER> to ask
// others, MESH_EVENTS_URL to tell and hear events, MESH_TOKEN_FILE for tokens in its own name.
// Whatever it prints is its log.
"use strict";

const fs = require("node:fs");
const http = require("node:http");

const SERVICE = process.env.MESH_SERVICE || "window";
const PRODUCT = process.env.MESH_URL_PRODUCT;
const EVENTS = process.env.MESH_EVENTS_URL;
const DEADLINE_MS = 2000;
const POLL_S = 20; // how long the bus may keep a question for events open
const PAUSE_MS = 200; // before the bus is asked again after it was away

const leaving = new AbortController();

function log(level, message, facts = {}) {
  const line = { time: new Date().toISOString(), level, service: SERVICE, message, ...facts };
  process.stdout.write(JSON.stringify(line) + "\n");
}

/** A token for `callee`; the mesh renews the file, so it is read anew each time. */
function token(callee) {
  if (!process.env.MESH_TOKEN_FILE) return {};
  const tokens = JSON.parse(fs.readFileSync(process.env.MESH_TOKEN_FILE, "utf8"));
  return { authorization: `Bearer ${tokens[callee]}` };
}

class Problem extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

/** What is in the window: asked of product now, as dear as product says. */
async function show(request) {
  const given = Number(request.headers["mesh-timeout"]) || DEADLINE_MS;
  const left = Math.min(given, DEADLINE_MS) - 10;
  const headers = { ...token("product"), "mesh-timeout": String(left) };
  if (request.headers.traceparent) headers.traceparent = request.headers.traceparent;
  let answer;
  try {
    answer = await fetch(`${PRODUCT}/products`, { headers, signal: AbortSignal.timeout(left) });
  } catch (error) {
    throw new Problem(503, "unavailable", `product does not answer: ${error.message}`);
  }
  if (!answer.ok) throw new Problem(503, "unavailable", `product answered ${answer.status}`);
  const { items } = await answer.json();
  return {
    items: items.map((item) => ({
      name: item.name,
      price: `${(item.price_minor / 100).toFixed(2)} ${item.currency}`,
      sold_out: item.available === 0,
    })),
  };
}

/** Ask the bus until it answers: it may be away for a moment, and what is told twice is told once. */
async function bus(method, url, body) {
  while (!leaving.signal.aborted) {
    try {
      const answer = await fetch(url, {
        method,
        headers: { ...token("bus"), "content-type": "application/cloudevents+json" },
        body: body && JSON.stringify(body),
        signal: leaving.signal,
      });
      if (answer.ok) return await answer.json();
      if (answer.status < 500) log("error", "the bus refused", { status: answer.status });
    } catch (error) {
      if (!leaving.signal.aborted) log("warning", "the bus does not answer", { why: error.message });
    }
    await new Promise((done) => setTimeout(done, PAUSE_MS));
  }
  return [];
}

/** Hear of stock, and tell when a product leaves the window or comes back. */
async function listen() {
  let after = ""; // at first: where the bus has it that we stopped
  while (!leaving.signal.aborted) {
    const asked = `consumer=${SERVICE}&type=product.stock_changed&wait=${POLL_S}&after=${after}`;
    for (const event of await bus("GET", `${EVENTS}?${asked}`)) {
      const { available, d_on_hand, d_reserved, sku } = event.data;
      const before = available - (d_on_hand - d_reserved);
      if ((available === 0) !== (before === 0)) {
        const type = available === 0 ? "window.emptied" : "window.filled";
        await bus("POST", `${EVENTS}/${type}`, {
          specversion: "1.0",
          id: `${type} by ${event.id}`, // the same whenever this is told again
          source: `/${SERVICE}`,
          type,
          subject: event.subject,
          causationid: event.id,
          data: { sku },
        });
        log("info", type, { sku });
      }
      after = event.position;
    }
  }
}

const TEXT = { type: "string" };
const DOCUMENT = {
  openapi: "3.1.0",
  info: { title: SERVICE, version: "1" },
  paths: {
    "/window": {
      get: {
        operationId: "show",
        summary: "What is in the window, as product has it now.",
        security: [],
        responses: {
          200: {
            description: "The window",
            content: {
              "application/json": {
                schema: {
                  type: "object",
                  properties: {
                    items: {
                      type: "array",
                      items: {
                        type: "object",
                        properties: { name: TEXT, price: TEXT, sold_out: { type: "boolean" } },
                      },
                    },
                  },
                },
              },
            },
          },
          default: {
            description: "A problem",
            content: { "application/problem+json": { schema: { type: "object" } } },
          },
        },
      },
    },
  },
};

const ROUTES = {
  "/livez": () => ({ status: "ok" }),
  "/readyz": () => ({ status: "ok" }),
  "/openapi.json": () => DOCUMENT,
  "/window": show,
};

async function answer(request, response) {
  const path = request.url.split("?")[0];
  let status = 200;
  let type = "application/json";
  let body;
  try {
    const route = ROUTES[path];
    if (!route) throw new Problem(404, "not-found", `nothing is at ${path}`);
    if (request.method !== "GET") throw new Problem(405, "method-not-allowed", "only GET");
    body = await route(request);
  } catch (error) {
    status = error.status || 500;
    type = "application/problem+json";
    body = { type: "about:blank", title: http.STATUS_CODES[status], status, detail: error.message };
    if (status >= 500) log("error", "a request failed", { path, error: error.message });
  }
  response.writeHead(status, { "content-type": type });
  response.end(JSON.stringify(body));
  if (path === "/window") log("info", "shown", { status });
}

const server = http.createServer(answer);
const where = process.env.LISTEN_FDS
  ? { fd: 3 }
  : { port: Number(process.env.PORT || 0), host: process.env.HOST || "127.0.0.1" };
server.listen(where, () => log("info", "ready"));
if (EVENTS) listen();

process.on("SIGTERM", () => {
  log("info", "stopping");
  leaving.abort();
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
