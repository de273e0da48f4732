// Uploads a file with OpenAI's client, has it read, is answered from it in both of OpenAI's ways, and prints what came.
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ apiKey: "none-needed", baseURL: process.argv[2], maxRetries: 0 });
const question = "When does the ferry from Lumen to Korr leave?";
const text = "The ferry from Lumen to Korr leaves at seven o'clock in the morning.";
const told = {};

const file = await client.files.create({ file: await toFile(Buffer.from(text), "ferry.txt"), purpose: "assistants" });
told.file = { bytes: file.bytes, content: await (await client.files.content(file.id)).text() };

const store = await client.vectorStores.create({ name: "node" });
const attached = await client.vectorStores.files.createAndPoll(store.id, { file_id: file.id }, { pollIntervalMs: 50 });
const other = await toFile(Buffer.from("The harbour of Korr has nine berths."), "harbour.txt");
const uploaded = await client.vectorStores.files.uploadAndPoll(store.id, other, { pollIntervalMs: 50 });
told.statuses = [attached.status, uploaded.status];

const found = await client.vectorStores.search(store.id, { query: question, max_num_results: 1 });
told.found = found.data.map((result) => result.filename);

const retrieval = { vector_store_ids: [store.id] };
const stream = await client.chat.completions.create({
  model: "demo", messages: [{ role: "user", content: question }], max_tokens: 24, stream: true, retrieval,
});
told.loop = "";
for await (const chunk of stream) {
  told.loop += chunk.choices[0].delta.content ?? "";
  told.sources ??= chunk.retrieval?.sources?.map((source) => source.filename);
}

const events = client.responses.stream({
  model: "pirate", input: question, max_output_tokens: 24,
  tools: [{ type: "file_search", vector_store_ids: [store.id] }], include: ["file_search_call.results"],
});
told.events = [];
told.numbers = [];
for await (const event of events) {
  told.events.push(event.type);
  told.numbers.push(event.sequence_number);
}
const response = await events.finalResponse();
told.text = response.output_text;
told.output = response.output.map((item) => item.type);
told.results = response.output[0].results.map((result) => result.filename);

await client.vectorStores.delete(store.id);
for (const id of [attached.id, uploaded.id]) await client.files.delete(id);
console.log(JSON.stringify(told));
