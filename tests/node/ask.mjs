// Asks a server with OpenAI's client in each way that has citations, and prints what the client made of the answers.
import OpenAI from "openai";

const client = new OpenAI({ apiKey: "none-needed", baseURL: process.argv[2], maxRetries: 0 });
const asked = { model: "demo", messages: [{ role: "user", content: "what is blue?" }] };
const told = {};

const whole = await client.chat.completions.create(asked);
told.whole = { text: whole.choices[0].message.content, annotations: whole.choices[0].message.annotations };

told.loop = "";
for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
  told.loop += chunk.choices[0]?.delta?.content ?? "";
}

const stream = client.chat.completions.stream(asked);
told.helper = (await stream.finalChatCompletion()).choices[0].message.content;

const events = client.responses.stream({ model: "demo", input: "what is blue?" });
told.events = [];
for await (const event of events) told.events.push(event.type);
const response = await events.finalResponse();
told.response = { text: response.output_text, output: response.output };

console.log(JSON.stringify(told));
