/**
 * Tokens a second of streams at once: through the library, and over HTTP with the model in this process and in one of its own. They take turns,
 * so that other work on the machine falls on all of them. All must give the same text.
 *
 *     node apps/server/bench/overhead.mjs <model.gguf> [streams] [tokens] [rounds] [threads]
 */
import { loadModel } from '@ctkvr/model-runner';
import { startServer } from '@ctkvr/server';
import { pino } from 'pino';

const [path, streams = '8', tokens = '32', rounds = '20', threads = '0'] = process.argv.slice(2);
const [numStreams, numTokens, numRounds, numThreads] = [streams, tokens, rounds, threads].map(Number);
const question = 'Tell a long story about a lighthouse keeper.';

const model = await loadModel(path, { numThreads });
const common = { port: 0, handleSignals: false, maxRunning: numStreams, logger: pino({ level: 'silent' }) };
const servers = {
  'HTTP, one process': await startServer({ ...common, model }),
  'HTTP, own process': await startServer({ ...common, model: path, load: { numThreads } }),
};

async function library() {
  const prompt = await model.applyChatTemplate([{ role: 'user', content: question }]);
  return together(async () => {
    const session = await model.admitSession({ promptLength: prompt.length, contextLength: prompt.length + numTokens });
    await session.prefill(prompt);
    const options = { maxTokens: numTokens, ignoreEndOfTurn: true, sampling: { temperature: 0 } };
    let text = '';
    for await (const event of session.generate(options)) text += event.text;
    await session.close();
    return text;
  });
}

async function http({ url, modelName }) {
  return together(async () => {
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model: modelName,
        messages: [{ role: 'user', content: question }],
        max_tokens: numTokens,
        ignore_eos: true,
        temperature: 0,
        stream: true,
        cache_prompt: false,
      }),
    });
    const body = await response.text();
    if (!body.includes('data: [DONE]')) throw new Error(body.slice(-300));
    const chunks = [...body.matchAll(/^data: (\{.*)$/gm)].map(([, data]) => JSON.parse(data));
    return chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('');
  });
}

const together = (one) => Promise.all(Array.from({ length: numStreams }, one));
const contenders = [
  ['library', library],
  ...Object.entries(servers).map(([name, server]) => [name, () => http(server)]),
];
const rates = new Map(contenders.map(([name]) => [name, []]));
const texts = new Set();
for (let round = 0; round <= numRounds; round += 1) {
  for (const [name, run] of contenders) {
    const startedAt = performance.now();
    const answers = await run();
    const rate = (numStreams * numTokens * 1000) / (performance.now() - startedAt);
    if (round > 0) rates.get(name).push(rate); // the first warms up
    for (const text of answers) texts.add(text);
  }
}
if (texts.size !== 1) throw new Error(`the answers differ: ${[...texts].join('\n---\n')}`);
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
for (const [name, values] of rates) {
  const ratios = values.map((value, round) => value / rates.get('library')[round]);
  process.stdout.write(
    `${name.padEnd(20)} median ${median(values).toFixed(1)} tokens/s; beside the library in the same round: ` +
      `median ${(100 * median(ratios)).toFixed(1)} %, all ${ratios.map((ratio) => (100 * ratio).toFixed(0)).join(' ')}\n`,
  );
}
await Promise.all(Object.values(servers).map((server) => server.close()));
await model.close();
