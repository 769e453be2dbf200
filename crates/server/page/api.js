// The server, as any client of OpenAI's interface asks it. The key stays in this page's memory.

let key = "";
export const setKey = (value) => { key = value; };

export class ApiError extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? `HTTP ${status}`);
    this.status = status;
    this.code = body?.error?.code;
  }
}

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { ...options, headers });
  if (!response.ok) throw new ApiError(response.status, await response.json().catch(() => null));
  return response;
}

export const get = async (path) => (await ask(path)).json();

const send = (path, body, options = {}) =>
  ask(path, { ...options, method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
export const post = async (path, body, options) => (await send(path, body, options)).json();

/** A name that no other has. Pages that come over plain HTTP from another machine have no `crypto.randomUUID`. */
export const newId = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

let last = { said: "", key: "" };
/** A key for what is said: a second try of the same is kept once, and what is said anew is something else. */
export function keyOf(said) {
  const text = JSON.stringify(said);
  if (text !== last.said) last = { said: text, key: newId() };
  return last.key;
}

/** The models, and what the server has besides. */
export const models = () => get("/v1/models");
export const model = (name) => get(`/v1/models/${encodeURIComponent(name)}`);
/** What may come after a conversation and the tokens of an answer that has begun. */
export const distribution = (body) => post("/v1/distribution", body);
/** What a reward model makes of an answer. */
export const score = (body) => post("/v1/score", body);

/** The chunks of an answer as they come. The server keeps them until they are forgotten. */
export async function* chat(body, signal) {
  const more = { stream: true, resumable: true, stream_options: { include_usage: true } };
  yield* chunks(await send("/v1/chat/completions", { ...body, ...more }), signal);
}

/** The same of an answer that is on its way: its chunks from number `from` on. */
export async function* resume(id, from, signal) {
  yield* chunks(await ask(`/v1/streams/${id}?from=${from}`), signal);
}

/** Lets the server compute and keep an answer no longer. */
export const forget = (id) => ask(`/v1/streams/${id}`, { method: "DELETE", keepalive: true }).catch(() => {});

async function* chunks(response, signal) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const leave = () => reader.cancel().catch(() => {});
  signal.addEventListener("abort", leave);
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new Error("lost");
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const data = event.split("\n").find((line) => line.startsWith("data: "))?.slice(6);
        if (!data) continue;
        if (data === "[DONE]") return;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new ApiError(500, chunk);
        yield chunk;
      }
    }
  } finally {
    leave();
  }
}
