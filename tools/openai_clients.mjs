// The JavaScript half of openai_clients.py, which starts it: a line of JSON a check.
//
//     openai_clients.mjs DIRECTORY {"url":…,"key":…,"chat":…,"text":…,"reward":…,"end":…,"part":…}
//
// DIRECTORY is where `npm install openai` ran.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";

const OpenAI = createRequire(path.resolve(process.argv[2]) + "/")("openai");
const asked = JSON.parse(process.argv[3]);
const client = new OpenAI({ apiKey: asked.key, baseURL: asked.url, maxRetries: 0 });
const messages = [{ role: "user", content: "2 + 3?" }];
const chat = (fields, options) => client.chat.completions.create({ model: asked.chat, messages, ...fields }, options);
const write = (fields) => client.completions.create({ model: asked.text, prompt: "The cat", ...fields });

async function check(number, what, run) {
  let fault = null;
  try {
    await run();
  } catch (error) {
    fault = `${error.name}: ${error.message}`.slice(0, 600);
  }
  console.log(JSON.stringify({ number, what, fault }));
}

async function texts(stream) {
  const told = {};
  for await (const chunk of stream) {
    for (const choice of chunk.choices) {
      const of = (told[choice.index] ??= { text: "", finish: [] });
      of.text += choice.delta?.content ?? choice.text ?? "";
      if (choice.finish_reason) of.finish.push(choice.finish_reason);
    }
  }
  return told;
}

async function fails(kind, run) {
  try {
    await run();
  } catch (error) {
    assert.ok(error instanceof kind, `${error.name}: ${error.message}`);
    return error;
  }
  assert.fail(`no ${kind.name}`);
}

async function all() {
  await check("1", "the helper stream takes n=2", async () => {
    for (let seed = 0; seed < 5; seed += 1) {
      const stream = client.chat.completions.stream({ model: asked.chat, messages, n: 2, seed });
      assert.equal((await stream.finalChatCompletion()).choices.length, 2);
    }
  });
  await check("1", "each choice is introduced with its role, in order", async () => {
    const first = [];
    for await (const chunk of await chat({ n: 3, stream: true, max_tokens: 3 })) first.push(chunk.choices[0]);
    assert.deepEqual(first.slice(0, 3).map((c) => [c.index, c.delta.role]), [0, 1, 2].map((i) => [i, "assistant"]));
  });
  await check("2", "each choice has one finish_reason", async () => {
    for (const told of [await texts(await chat({ n: 3, stream: true })), await texts(await write({ n: 2, stream: true }))]) {
      for (const { finish } of Object.values(told)) assert.equal(finish.length, 1);
    }
  });
  await check("4", "the helper has the usage", async () => {
    const fields = { model: asked.chat, messages, temperature: 0, stream_options: { include_usage: true } };
    const wanted = (await chat({ temperature: 0 })).usage.completion_tokens;
    assert.equal((await client.chat.completions.stream(fields).totalUsage()).completion_tokens, wanted);
  });
  await check("4", "stream_options without stream is a 400", async () => {
    const error = await fails(OpenAI.BadRequestError, () => chat({ stream_options: { include_usage: true } }));
    assert.equal(error.param, "stream_options");
  });
  await check("6", "a model that is not loaded is asked once", async () => {
    const post = (what) => fetch(asked.url + `/${what}/` + asked.reward, { method: "POST" });
    await post("unload");
    let count = 0;
    const counting = (...args) => ((count += 1), fetch(...args));
    const patient = new OpenAI({ apiKey: asked.key, baseURL: asked.url, maxRetries: 2, fetch: counting });
    try {
      const ask = () => patient.chat.completions.create({ model: asked.reward, messages });
      assert.equal((await fails(OpenAI.InternalServerError, ask)).status, 503);
      assert.equal(count, 1);
    } finally {
      await post("load");
    }
  });
  await check("7", "streamed and not: the same text and finish", async () => {
    for (let seed = 0; seed < 4; seed += 1) {
      const fields = { seed, n: 2, temperature: 1.3, stop: ["e."] };
      const whole = await chat(fields);
      const told = await texts(await chat({ ...fields, stream: true }));
      for (const choice of whole.choices) {
        assert.deepEqual(told[choice.index], { text: choice.message.content, finish: [choice.finish_reason] });
      }
    }
  });
  await check("8", "an aborted stream leaves the next request its answer", async () => {
    for (let i = 0; i < 10; i += 1) {
      const stream = await chat({ stream: true, n: 4, logit_bias: asked.end });
      for await (const _ of stream) break;
      stream.controller.abort();
      assert.ok((await chat({ max_tokens: 2 })).choices.length);
    }
  });
  await check("9", "the client's own time-out is an error, and the next answer comes", async () => {
    await fails(OpenAI.APIConnectionTimeoutError, () => chat({ n: 16, logit_bias: asked.end }, { timeout: 30 }));
    assert.ok((await chat({ max_tokens: 2 })).choices.length);
  });
  await check("10", "an invalid request with stream: true is a 400", async () => {
    for (const fields of [{ n: 0 }, { temperature: 3 }, { messages: [] }]) {
      assert.equal((await fails(OpenAI.BadRequestError, () => chat({ ...fields, stream: true }))).status, 400);
    }
  });
  await check("11", "a stop string is never sent", async () => {
    const whole = (await write({ seed: 1, max_tokens: 20 })).choices[0].text;
    const stop = whole.slice(6, 11);
    const told = await texts(await write({ seed: 1, max_tokens: 20, stop, stream: true }));
    assert.deepEqual(told[0], { text: whole.slice(0, whole.indexOf(stop)), finish: ["stop"] });
  });
  await check("13", "single bytes of 🙂 come as whole characters", async () => {
    const response_format = { type: "json_schema", json_schema: { name: "s", schema: { enum: ["🙂中文🙂"] } } };
    const told = await texts(await chat({ response_format, stream: true }));
    assert.equal(JSON.parse(told[0].text), "🙂中文🙂");
  });
  await check("14", "log-probabilities belong to their tokens", async () => {
    const choice = (await chat({ logprobs: true, top_logprobs: 2, temperature: 0 })).choices[0];
    const bytes = choice.logprobs.content.flatMap((entry) => entry.bytes);
    assert.equal(new TextDecoder().decode(new Uint8Array(bytes)), choice.message.content);
    await fails(OpenAI.BadRequestError, () => chat({ logprobs: true, top_logprobs: 21 }));
  });
  await check("15", "max_tokens is exact", async () => {
    const answer = await chat({ max_tokens: 5, logit_bias: asked.end });
    assert.deepEqual([answer.usage.completion_tokens, answer.choices[0].finish_reason], [5, "length"]);
  });
  await check("16", "a prompt that does not fit has its code", async () => {
    const long = [{ role: "user", content: "cat ".repeat(3000) }];
    assert.equal((await fails(OpenAI.BadRequestError, () => chat({ messages: long }))).code, "context_length_exceeded");
  });
  await check("17", "a bad parameter is named", async () => {
    const error = await fails(OpenAI.BadRequestError, () => chat({ logit_bias: { cat: 1 } }));
    assert.equal(error.param, "logit_bias");
  });
  await check("18", "an answer that follows a schema parses", async () => {
    const schema = { type: "object", properties: { yes: { type: "boolean" } }, required: ["yes"], additionalProperties: false };
    const response_format = { type: "json_schema", json_schema: { name: "s", strict: true, schema } };
    const answer = await client.chat.completions.parse({ model: asked.chat, messages, response_format });
    assert.equal(typeof answer.choices[0].message.parsed.yes, "boolean");
  });
  await check("19", "a tool is called, streamed and whole, and its result is read", async () => {
    const parameters = { type: "object", properties: { sign: { enum: ["+", "-"] } }, required: ["sign"] };
    const tools = [{ type: "function", function: { name: "add", parameters } }];
    const asks = { tools, tool_choice: "required", temperature: 0, max_tokens: 120 };
    const { finish_reason, message } = (await chat(asks)).choices[0];
    assert.equal(finish_reason, "tool_calls");
    const [call] = message.tool_calls;
    assert.ok(["+", "-"].includes(JSON.parse(call.function.arguments).sign));
    const streamed = (await client.chat.completions.stream({ model: asked.chat, messages, ...asks }).finalMessage()).tool_calls;
    assert.equal(streamed[0].function.arguments, call.function.arguments);
    const said = [...messages, message, { role: "tool", tool_call_id: call.id, content: "7" }];
    assert.ok((await chat({ messages: said, tools, tool_choice: "none", max_tokens: 8 })).choices[0].message.content !== null);
    assert.ok((await chat({ tools: [], tool_choice: "none" })).choices.length);
  });
  await check("25", "a seed that was drawn gives the answer again", async () => {
    const answer = await chat({ temperature: 1.5 });
    assert.equal((await chat({ temperature: 1.5, seed: answer.seed })).choices[0].message.content, answer.choices[0].message.content);
  });
  await check("27", "content as parts, an assistant's message continued", async () => {
    const parts = [{ role: "user", content: [{ type: "text", text: "2 + " }, { type: "text", text: "3?" }] }];
    const [a, b] = [await chat({ temperature: 0 }), await chat({ temperature: 0, messages: parts })];
    assert.equal(a.choices[0].message.content, b.choices[0].message.content);
  });
  await check("api", "models and embeddings", async () => {
    assert.ok((await client.models.list()).data.some((model) => model.id === asked.chat));
    const vectors = await client.embeddings.create({ model: asked.text, input: ["The cat", "A dog"] });
    for (const { embedding } of vectors.data) {
      assert.ok(Math.abs(embedding.reduce((sum, x) => sum + x * x, 0) - 1) < 1e-5);
    }
  });
}

async function keys() {
  await check("20", "a wrong key is AuthenticationError", async () => {
    const other = new OpenAI({ apiKey: "wrong", baseURL: asked.url, maxRetries: 0 });
    await fails(OpenAI.AuthenticationError, () => other.models.list());
    assert.ok((await client.models.list()).data.length);
  });
  await check("3", "a fault after the first byte throws APIError", async () => {
    const post = (what) => fetch(`${asked.url}/${what}/${asked.chat}`, { method: "POST", headers: { Authorization: `Bearer ${asked.key}` } });
    const stream = await chat({ stream: true, n: 16, logit_bias: asked.end });
    const error = await fails(OpenAI.APIError, async () => {
      let unloaded = false;
      for await (const _ of stream) if (!unloaded) unloaded = (await post("unload")).ok;
    });
    await post("load");
    assert.match(error.message, /unloaded/);
  });
}

async function silence() {
  await check("5", "a comment after 15 s of silence is passed over", async () => {
    const told = await texts(await write({ max_tokens: 3, stream: true }));
    assert.deepEqual(told[0].finish, ["length"]);
  });
}

await { all, keys, silence }[asked.part]();
