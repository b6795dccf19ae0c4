/**
 * Tokens a second of streams at once: through the library, and over HTTP with the model in this process and in one of its own. They take turns,
 * so that other work on the machine falls on all of them. All must give the same text. Two rates are printed: of the whole round, and of
 * the time in which all streams run. The first depends on how the prompts happened to share steps, which differs from round to round.
 *
 *     node apps/server/bench/overhead.mjs <model.gguf> [streams] [tokens] [rounds] [threads]
 */
import { request as httpRequest } from 'node:http';
import { loadModel } from '@ctkvr/model-runner';
import { startServer } from '@ctkvr/server';
import { pino } from 'pino';

const [path, streams = '8', tokens = '128', rounds = '15', threads = '0'] = process.argv.slice(2);
const [numStreams, numTokens, numRounds, numThreads] = [streams, tokens, rounds, threads].map(Number);
/** Rounds that are not counted: the JavaScript engine compiles what runs often. */
const NUM_WARM_UPS = 3;
const question = 'Tell a long story about a lighthouse keeper.';

const model = await loadModel(path, { numThreads });
const common = { port: 0, handleSignals: false, maxRunning: numStreams, logger: pino({ level: 'silent' }) };
const servers = {
  'HTTP, one process': await startServer({ ...common, model }),
  'HTTP, own process': await startServer({ ...common, model: path, load: { numThreads } }),
};

/** Both give a stream's pieces, each with its time; a piece of a server's answer may hold several tokens that came at once. */
async function askLibrary() {
  const prompt = await model.applyChatTemplate([{ role: 'user', content: question }]);
  const session = await model.admitSession({ promptLength: prompt.length, contextLength: prompt.length + numTokens });
  await session.prefill(prompt);
  const options = { maxTokens: numTokens, ignoreEndOfTurn: true, sampling: { temperature: 0 } };
  const pieces = [];
  for await (const { text } of session.generate(options)) pieces.push({ at: performance.now(), text });
  await session.close();
  return { pieces, text: pieces.map(({ text }) => text).join('') };
}

/** The client is as plain as can be, since it shares the cores with the server: its work counts as the server's. */
function askServer({ url, modelName }) {
  const headers = { 'content-type': 'application/json' };
  const body = {
    model: modelName,
    messages: [{ role: 'user', content: question }],
    max_tokens: numTokens,
    ignore_eos: true,
    temperature: 0,
    stream: true,
    cache_prompt: false,
  };
  return new Promise((resolve, reject) => {
    const sent = httpRequest(`${url}/v1/chat/completions`, { method: 'POST', headers }, (response) => {
      const parts = [];
      response.on('data', (bytes) => parts.push({ at: performance.now(), bytes }));
      response.on('end', () => resolve(parts));
      response.on('error', reject);
    });
    sent.on('error', reject);
    sent.end(JSON.stringify(body));
  });
}

function readAnswer(parts) {
  const body = Buffer.concat(parts.map(({ bytes }) => bytes)).toString();
  if (!body.includes('data: [DONE]')) throw new Error(body.slice(-300));
  const pieces = parts.flatMap(({ at, bytes }) => textsOf(bytes.toString()).map((text) => ({ at, text })));
  return { pieces, text: textsOf(body).join('') };
}

/** Of all events that are whole; each is sent in one piece. */
function textsOf(events) {
  const chunks = [...events.matchAll(/^data: (\{.*)\n\n/gm)].map(([, data]) => JSON.parse(data));
  return chunks.map(({ choices }) => choices[0]?.delta.content ?? '').filter((text) => text !== '');
}

/** Pieces a second from when the last stream has begun until the first one ends. */
function rateOfAll(answers) {
  const begin = Math.max(...answers.map(({ pieces }) => pieces[0].at));
  const end = Math.min(...answers.map(({ pieces }) => pieces.at(-1).at));
  const inside = answers.flatMap(({ pieces }) => pieces.filter(({ at }) => at > begin && at <= end));
  return (1000 * inside.length) / (end - begin);
}

const contenders = [
  ['library', askLibrary, (answer) => answer],
  ...Object.entries(servers).map(([name, server]) => [name, () => askServer(server), readAnswer]),
];
const rates = new Map(contenders.map(([name]) => [name, { whole: [], together: [] }]));
const texts = new Set();
for (let round = 0; round < NUM_WARM_UPS + numRounds; round += 1) {
  for (const [name, ask, read] of contenders) {
    const startedAt = performance.now();
    const raw = await Promise.all(Array.from({ length: numStreams }, ask));
    const seconds = (performance.now() - startedAt) / 1000;
    const answers = raw.map(read);
    for (const { text } of answers) texts.add(text);
    if (round < NUM_WARM_UPS) continue;
    rates.get(name).whole.push((numStreams * numTokens) / seconds);
    rates.get(name).together.push(rateOfAll(answers));
  }
}
if (texts.size !== 1) throw new Error(`the answers differ: ${[...texts].join('\n---\n')}`);
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
for (const [title, key] of [
  ['While all streams run', 'together'],
  ['Whole rounds', 'whole'],
]) {
  process.stdout.write(`${title}:\n`);
  for (const [name, { [key]: values }] of rates) {
    const ratios = values.map((value, round) => value / rates.get('library')[key][round]);
    process.stdout.write(
      `  ${name.padEnd(20)} median ${median(values).toFixed(1)} tokens/s; beside the library in the same round: ` +
        `median ${(100 * median(ratios)).toFixed(1)} %, all ${ratios.map((ratio) => (100 * ratio).toFixed(0)).join(' ')}\n`,
    );
  }
}
await Promise.all(Object.values(servers).map((server) => server.close()));
await model.close();
