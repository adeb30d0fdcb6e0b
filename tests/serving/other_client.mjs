// The official client for Node, unmodified: `node other_client.mjs FOLDER URL MODEL EMBEDDER`, the folder that holds node_modules/openai.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, baseURL, model, embedder] = process.argv.slice(2);
const require = createRequire(pathToFileURL(folder + "/x.js"));
const { default: OpenAI } = await import(pathToFileURL(require.resolve("openai")));
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Will it rain in Bath?" }];
const parameters = { type: "object", properties: { town: { enum: ["Bath", "苏州"] } }, required: ["town"], additionalProperties: false };
const tools = [{ type: "function", function: { name: "weather", parameters, strict: true } }];
const checkTown = (call) => assert.ok(["Bath", "苏州"].includes(JSON.parse(call.function.arguments).town));

const whole = await client.chat.completions.create({ model, messages, seed: 1, max_tokens: 20, logprobs: true, top_logprobs: 2 });
assert.equal(whole.choices[0].logprobs.content[0].top_logprobs.length, 2);
let text = "", usage = null;
for await (const chunk of await client.chat.completions.create({
  model, messages, seed: 1, max_tokens: 20, stream: true, stream_options: { include_usage: true } })) {
  text += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(text, whole.choices[0].message.content);
assert.equal(usage.completion_tokens, whole.usage.completion_tokens);

const called = await client.chat.completions.create({ model, messages, tools, tool_choice: "required", seed: 1, parallel_tool_calls: false });
checkTown(called.choices[0].message.tool_calls[0]);
assert.equal(called.choices[0].finish_reason, "tool_calls");
const runner = client.chat.completions.stream({ model, messages, tools, tool_choice: "required", seed: 1, parallel_tool_calls: false });
const final = await runner.finalChatCompletion();
assert.equal(final.choices[0].message.tool_calls[0].function.arguments, called.choices[0].message.tool_calls[0].function.arguments);

const schema = { type: "object", properties: { lit: { type: "boolean" } }, required: ["lit"], additionalProperties: false };
const lamp = await client.chat.completions.parse({ model, messages, response_format: { type: "json_schema", json_schema: { name: "lamp", schema, strict: true } } });
assert.equal(typeof JSON.parse(lamp.choices[0].message.content).lit, "boolean");

const reply = await client.responses.create({ model, input: "Will it rain?", max_output_tokens: 9 });
assert.ok(reply.output_text.length > 0);
const events = client.responses.stream({ model, input: "Will it rain?", max_output_tokens: 9 });
assert.ok((await events.finalResponse()).output_text.length > 0);

const [one, other] = await Promise.all(["base64", "float"].map((encoding_format) => client.embeddings.create({ model: embedder, input: "a", encoding_format })));
const plain = await client.embeddings.create({ model: embedder, input: "a" });
assert.equal(typeof one.data[0].embedding, "string");
assert.ok(Math.abs(plain.data[0].embedding[0] - other.data[0].embedding[0]) < 1e-6);
const ids = [];
for await (const each of client.models.list()) ids.push(each.id);
assert.ok(ids.includes(model));
await assert.rejects(client.chat.completions.create({ model: "none", messages }), OpenAI.NotFoundError);
await assert.rejects(client.chat.completions.create({ model, messages, store: true }), OpenAI.BadRequestError);
