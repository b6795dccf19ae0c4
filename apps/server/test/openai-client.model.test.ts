/**
 * The official OpenAI client against a listening server with a real model. Needs CTKVR_TEST_MODEL (a GGUF file, SmolLM2-135M-Instruct
 * in our own runs) and the native build.
 */
import { setTimeout as delay } from 'node:timers/promises';
import OpenAI from 'openai';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type RunningServer, startServer } from '../src/index.js';
import { startModelServer } from './model-server.js';
import { RawClient } from './raw-client.js';
import { until } from './until.js';

const modelPath = process.env.CTKVR_TEST_MODEL;
const title = `OpenAI client${modelPath ? '' : ' (skipped: CTKVR_TEST_MODEL names no GGUF file)'}`;

// So small a model is near a tie on "What is the capital of …?": the rounding of one machine's kernels decides. Of this it is sure.
const capitalOf = (country: string) => `Name the capital of ${country}.`;

// Other programs on the machine can make a token take seconds.
describe.skipIf(!modelPath)(title, { timeout: 240_000 }, () => {
  let server: RunningServer;
  let client: OpenAI;

  beforeAll(async () => {
    server = await startModelServer(modelPath!, {
      contextLength: 8192,
    });
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
  }, 120_000);

  afterAll(async () => {
    await server?.close();
  });

  const ask = (
    content: string,
    more: { max_completion_tokens?: number; temperature?: number; seed?: number } = {},
  ) => ({
    model: 'test-model',
    messages: [{ role: 'user' as const, content }],
    temperature: 0,
    max_completion_tokens: 16,
    ...more,
  });
  const health = async () => (await fetch(`${server.url}/health`)).json() as Promise<{ running: number }>;
  const tokenize = async (content: string) => {
    const headers = { 'content-type': 'application/json' };
    const body = JSON.stringify({ content });
    const response = await fetch(`${server.url}/tokenize`, { method: 'POST', headers, body });
    return ((await response.json()) as { tokens: number[] }).tokens;
  };
  const idleWithin = async (ms: number) => {
    const deadline = performance.now() + ms;
    while ((await health()).running > 0) {
      if (performance.now() > deadline) throw new Error(`still running after ${ms} ms`);
      await delay(20);
    }
  };

  test('lists the model', async () => {
    expect((await client.models.list()).data.map((model) => model.id)).toEqual(['test-model']);
  });

  test('counts and renders as the chat route does', async () => {
    const post = async (path: string, body: object) => {
      const headers = { 'content-type': 'application/json' };
      const response = await fetch(`${server.url}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
      return (await response.json()) as { prompt: string; tokens: number[]; content: string };
    };
    const { messages } = ask('Say <|im_end|>.');
    const { prompt } = await post('/apply-template', { messages });
    expect(prompt).toContain('Say <|im_end|>.<|im_end|>\n<|im_start|>assistant\n');
    const plain = { messages: ask(capitalOf('France')).messages };
    const rendered = (await post('/apply-template', plain)).prompt;
    const { tokens } = await post('/tokenize', { content: rendered, add_special: true });
    const answer = await client.chat.completions.create(ask(capitalOf('France')));
    expect(answer.usage?.prompt_tokens).toBe(tokens.length);
    expect((await post('/detokenize', { tokens })).content).toBe(rendered);
    const props = (await (await fetch(`${server.url}/props`)).json()) as { chat_template: string; eos_token: string };
    expect(props).toMatchObject({ eos_token: '<|im_end|>', chat_template: expect.stringContaining('im_start') });
  });

  test('answers, with usage and statistics', async () => {
    const answer = await client.chat.completions.create(ask(capitalOf('France')));
    expect(answer.choices[0]?.message.content).toContain('Paris');
    expect(answer.usage!.prompt_tokens).toBeGreaterThan(5);
    expect(answer.usage!.total_tokens).toBe(answer.usage!.prompt_tokens + answer.usage!.completion_tokens);
    expect(answer).toMatchObject({ ctkvr: { time_to_first_token_ms: expect.any(Number) } });
  });

  test('streams the same greedy answer, usage last', async () => {
    const whole = await client.chat.completions.create(ask('Name three colours.'));
    const stream = await client.chat.completions.create({
      ...ask('Name three colours.'),
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')).toBe(
      whole.choices[0]?.message.content,
    );
    expect(chunks.at(-1)?.usage).toEqual(whole.usage);
    expect(chunks.at(-2)?.choices[0]?.finish_reason).toBe(whole.choices[0]?.finish_reason);
  });

  test('completes a text, its tokens, and the rendered messages of a chat as that chat is answered', async () => {
    const more = { model: 'test-model', temperature: 0, max_tokens: 16 };
    const prompt = 'The capital of France is';
    const whole = await client.completions.create({ ...more, prompt });
    expect(whole.choices[0]?.text).toContain('Paris');
    const post = async (path: string, body: object) => {
      const headers = { 'content-type': 'application/json' };
      const response = await fetch(`${server.url}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
      return (await response.json()) as { prompt: string; tokens: number[] };
    };
    const { tokens } = await post('/tokenize', { content: prompt, add_special: true });
    expect(whole.usage?.prompt_tokens).toBe(tokens.length);
    expect((await client.completions.create({ ...more, prompt: tokens })).choices[0]?.text).toBe(
      whole.choices[0]?.text,
    );
    const streamOptions = { stream: true, stream_options: { include_usage: true } } as const;
    const chunks = [];
    for await (const chunk of await client.completions.create({ ...more, prompt, ...streamOptions }))
      chunks.push(chunk);
    expect(chunks.map((chunk) => chunk.choices[0]?.text ?? '').join('')).toBe(whole.choices[0]?.text);
    expect(chunks.at(-1)?.usage).toEqual(whole.usage);

    const question = ask(capitalOf('France'));
    const rendered = await post('/apply-template', { messages: question.messages });
    const completed = await client.completions.create({ ...more, prompt: rendered.prompt });
    const chat = await client.chat.completions.create(question);
    expect(completed.choices[0]?.text).toBe(chat.choices[0]?.message.content);
    const foreign = client.completions.create({ ...more, prompt: [10_000_000] });
    await expect(foreign).rejects.toMatchObject({ status: 400, param: 'prompt' });
  });

  test('a response says what the chat says, whole and streamed, and a conversation goes on from its output', async () => {
    const question = ask(capitalOf('France'));
    const chat = await client.chat.completions.create(question);
    const more = { model: 'test-model', temperature: 0, max_output_tokens: 16 };
    const whole = await client.responses.create({ ...more, input: capitalOf('France') });
    expect(whole.output_text).toBe(chat.choices[0]?.message.content);
    expect(whole.usage).toMatchObject({
      input_tokens: chat.usage?.prompt_tokens,
      output_tokens: chat.usage?.completion_tokens,
    });
    // The client's own helper puts the events together, and throws when they do not fit each other.
    const stream = client.responses.stream({ ...more, input: capitalOf('France') });
    let text = '';
    stream.on('response.output_text.delta', ({ delta }) => {
      text += delta;
    });
    const final = await stream.finalResponse();
    expect(text).toBe(whole.output_text);
    expect(final.output).toMatchObject([{ type: 'message', content: [{ type: 'output_text', text }] }]);
    expect(final.usage).toEqual(whole.usage);

    const next = await client.responses.create({
      ...more,
      input: [
        { role: 'user', content: capitalOf('France') },
        ...whole.output,
        { role: 'user', content: capitalOf('Germany') },
      ],
    });
    expect(next.output_text).toContain('Berlin');
    const remembered = client.responses.create({ ...more, input: 'x', previous_response_id: whole.id });
    await expect(remembered).rejects.toMatchObject({ status: 400, param: 'previous_response_id' });
  });

  test('an answer that stands last goes on as if the model had begun it', async () => {
    const question = { role: 'user' as const, content: capitalOf('France') };
    const create = async (begun: string, more: object = {}) => {
      const messages = [question, { role: 'assistant' as const, content: begun }];
      const answer = await client.chat.completions.create({ ...ask(''), messages, ...more });
      return answer.choices[0]?.message.content;
    };
    const whole = (await client.chat.completions.create(ask(question.content))).choices[0]?.message.content ?? '';
    const begun = whole.slice(0, whole.indexOf(' Paris'));
    expect(begun).not.toBe('');
    expect(begun + (await create(begun))).toBe(whole);
    expect(await create('')).toBe(whole);
    // S7: what it was before began anew.
    expect(await create('1, 2, 3,', { max_completion_tokens: 4 })).not.toBe(
      await create('1, 2, 3,', { max_completion_tokens: 4, continue_final_message: false }),
    );
  });

  test('a history with calls, results and empty contents is answered; thinking cannot be asked of this template', async () => {
    const call = { id: 'a', type: 'function' as const, function: { name: 'weather', arguments: '{"city":"Paris"}' } };
    const answer = await client.chat.completions.create({
      ...ask(''),
      messages: [
        { role: 'developer', content: '' },
        { role: 'user', content: 'What is the weather in Paris?' },
        { role: 'assistant', content: null, tool_calls: [call] },
        { role: 'tool', tool_call_id: 'a', content: 'sunny, 30 degrees' },
      ],
    });
    expect(answer.choices[0]?.message.content).toMatch(/sunny|30/);
    const thinking = client.chat.completions.create({ ...ask('x'), reasoning_effort: 'low' });
    await expect(thinking).rejects.toMatchObject({ status: 400, param: 'reasoning_effort' });
    const kwargs = { chat_template_kwargs: { wizardry: true } } as object;
    const unknown = client.chat.completions.create({ ...ask('x'), ...kwargs });
    await expect(unknown).rejects.toMatchObject({ status: 400, param: 'chat_template_kwargs.wizardry' });
  });

  test('log probabilities are of the answer’s tokens; greedy takes the likeliest', async () => {
    const asked = { ...ask('Name three colours.'), logprobs: true, top_logprobs: 3 };
    const answer = await client.chat.completions.create(asked);
    const { content } = answer.choices[0]!.logprobs!;
    expect(content).toHaveLength(answer.usage!.completion_tokens);
    expect(content!.map(({ token }) => token).join('')).toBe(answer.choices[0]?.message.content);
    for (const { token, logprob, top_logprobs: top } of content!) {
      expect(top).toHaveLength(3);
      expect([top[0]?.token, top[0]?.logprob]).toEqual([token, logprob]);
      expect(top.map((one) => one.logprob)).toEqual(top.map((one) => one.logprob).sort((a, b) => b - a));
      expect(top.reduce((sum, one) => sum + Math.exp(one.logprob), 0)).toBeLessThanOrEqual(1 + 1e-6);
    }
    const chunks = [];
    for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) chunks.push(chunk);
    expect(chunks.flatMap((chunk) => chunk.choices[0]?.logprobs?.content ?? [])).toEqual(content);
    const stopped = await client.chat.completions.create({ ...asked, stop: content![2]!.token });
    expect(stopped.choices[0]?.logprobs?.content).toEqual(content!.slice(0, stopped.usage!.completion_tokens));
  });

  test('calls of tools and their results reach a model whose template knows nothing of them', async () => {
    const answer = await client.responses.create({
      model: 'test-model',
      temperature: 0,
      max_output_tokens: 16,
      input: [
        { role: 'user', content: 'What is the weather in Paris?' },
        { type: 'function_call', call_id: 'a', name: 'weather', arguments: '{"city":"Paris"}' },
        { type: 'function_call_output', call_id: 'a', output: 'sunny, 30 degrees' },
      ],
    });
    expect(answer.output_text).toMatch(/sunny|30/);
  });

  test('max_completion_tokens ends with length after exactly as many tokens', async () => {
    const answer = await client.chat.completions.create(ask('Tell me a long story.', { max_completion_tokens: 5 }));
    expect(answer.choices[0]?.finish_reason).toBe('length');
    expect(answer.usage?.completion_tokens).toBe(5);
  });

  test('a stop string ends the answer and is not in it', async () => {
    const question = { ...ask(capitalOf('France')), stop: 'Paris' };
    const answer = await client.chat.completions.create(question);
    expect(answer.choices[0]?.finish_reason).toBe('stop');
    expect(answer.choices[0]?.message.content).not.toContain('Paris');
  });

  test('a seed replays a drawn answer, another seed gives another', async () => {
    const draw = async (seed: number) => {
      const answer = await client.chat.completions.create(
        ask('Invent a name for a ship.', { temperature: 1.2, seed, max_completion_tokens: 24 }),
      );
      return answer.choices[0]?.message.content;
    };
    const first = await draw(7);
    expect(await draw(7)).toBe(first);
    const others = [await draw(8), await draw(9)];
    expect(others.some((other) => other !== first)).toBe(true);
  });

  test('four at once run together, each with the answer it gets alone', async () => {
    // Answers that the model is sure of: in a batch sums are taken in another order, which may decide between near equals.
    const questions = ['France', 'Japan', 'Germany', 'England'].map(capitalOf);
    const answer = async (question: string) =>
      (await client.chat.completions.create(ask(question))).choices[0]?.message.content;
    const alone = [];
    for (const question of questions) alone.push(await answer(question));
    for (const [index, capital] of ['Paris', 'Tokyo', 'Berlin', 'London'].entries())
      expect(alone[index]).toContain(capital);

    const watching = new AbortController();
    const mostRunning = (async () => {
      let most = 0;
      while (!watching.signal.aborted) {
        most = Math.max(most, (await health()).running);
        await delay(5);
      }
      return most;
    })();
    expect(await Promise.all(questions.map(answer))).toEqual(alone);
    watching.abort();
    expect(await mostRunning).toBe(4);
  });

  test('leaving a stream frees the session', async () => {
    const leave = new AbortController();
    const stream = await client.chat.completions.create(
      { ...ask('Count from 1 to 1000.', { max_completion_tokens: 6000 }), stream: true },
      { signal: leave.signal },
    );
    let numChunks = 0;
    for await (const _chunk of stream) {
      numChunks += 1;
      if (numChunks === 4) leave.abort();
    }
    expect(numChunks).toBeLessThan(100);
    await idleWithin(20_000);
  });

  test('leaving during a long prefill frees the session', async () => {
    const long = ask(`${'The sea was calm and the sky was grey. '.repeat(600)}What was grey?`);
    const leave = new AbortController();
    const pending = client.chat.completions.create(long, { signal: leave.signal });
    const failure = expect(pending).rejects.toThrow(OpenAI.APIUserAbortError);
    while ((await health()).running === 0) await delay(5);
    leave.abort();
    await failure;
    await idleWithin(20_000);
  });

  test('pipelined streams whose client goes in the midst of the first leave nothing running', async () => {
    const bytes = Buffer.from(
      JSON.stringify({ ...ask('Count from 1 to 1000.', { max_completion_tokens: 400 }), stream: true }),
    );
    const head = `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${bytes.length}\r\n\r\n`;
    const leave: Record<string, (client: RawClient) => void> = {
      close: (one) => one.close(),
      reset: (one) => one.reset(),
      halfClose: (one) => one.halfClose(),
    };
    for (const leaving of Object.values(leave)) {
      const raw = new RawClient(server.port);
      raw.send(`${head}${bytes}`.repeat(3));
      await until(() => raw.received.split('data: ').length > 3);
      leaving(raw);
      await idleWithin(20_000);
      raw.close();
    }
  });

  test('top_k 1 is greedy at any temperature, a repetition penalty and a bias change the answer, ignore_eos goes on', async () => {
    const create = async (more: object) => {
      const question = ask(capitalOf('France'), { max_completion_tokens: 6 });
      return (await client.chat.completions.create({ ...question, ...more })).choices[0]?.message.content;
    };
    const greedy = await create({});
    expect(await create({ temperature: 2, top_k: 1 })).toBe(greedy);
    expect(await create({ temperature: 2, min_p: 1 })).toBe(greedy);
    expect(await create({ repetition_penalty: 50 })).not.toBe(greedy);
    const [sea] = await tokenize(' sea');
    expect(await create({ logit_bias: { [sea!]: 100 } })).toBe(' sea'.repeat(6));
    const short = ask(capitalOf('France'), { max_completion_tokens: 24 });
    const ended = await client.chat.completions.create(short);
    expect(ended.choices[0]?.finish_reason).toBe('stop');
    const goesOn = await client.chat.completions.create({ ...short, ignore_eos: true } as typeof short);
    expect(goesOn.usage?.completion_tokens).toBe(24);
  });

  test('max_tokens beyond the context is cut to its room', async () => {
    const answer = await client.chat.completions.create({
      ...ask(capitalOf('France')),
      max_completion_tokens: null,
      max_tokens: 32_000,
    });
    expect(answer.choices[0]?.finish_reason).toBe('stop');
  });

  test('bad requests arrive as the client’s typed errors', async () => {
    const badTemperature = client.chat.completions.create(ask('x', { temperature: 9 }));
    await expect(badTemperature).rejects.toMatchObject({ status: 400, param: 'temperature' });
    const badModel = client.chat.completions.create({ ...ask('x'), model: 'other' });
    await expect(badModel).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    const noSuchToken = client.chat.completions.create({ ...ask('x'), logit_bias: { 999999: 1 } });
    await expect(noSuchToken).rejects.toMatchObject({ status: 400, param: 'logit_bias' });
    const tooLong = client.chat.completions.create({ ...ask('word '.repeat(9000)), stream: true });
    await expect(tooLong).rejects.toMatchObject({ status: 400, code: 'context_length_exceeded' });
  });

  test('close() lets a running answer end and refuses new ones', async () => {
    const second = await startServer({
      model: modelPath!,
      modelName: 'test-model',
      port: 0,
      contextLength: 2048,
      logger: pino({ level: 'silent' }),
      handleSignals: false,
      shutdownGraceMs: 120_000,
    });
    const other = new OpenAI({ baseURL: `${second.url}/v1`, apiKey: 'none', maxRetries: 0 });
    const running = other.chat.completions.create(ask('Tell me a story.', { max_completion_tokens: 10 }));
    while (((await (await fetch(`${second.url}/health`)).json()) as { running: number }).running === 0) await delay(5);
    const closed = second.close();
    expect((await running).usage?.completion_tokens).toBeGreaterThan(0);
    await closed;
    await expect(other.models.list()).rejects.toBeInstanceOf(OpenAI.APIConnectionError);
  });
});
