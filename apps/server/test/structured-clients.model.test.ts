/** Real clients that ask a real model for JSON of a schema and for calls of tools. */
import Anthropic from '@anthropic-ai/sdk';
import { Ajv2020 } from 'ajv/dist/2020.js';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../src/index.js';
import { startModelServer } from './model-server.js';
import { randomSchemas, type Schema } from './random-schema.js';

const modelPath = process.env.CTKVR_TEST_MODEL;
const title = `structured answers${modelPath ? '' : ' (skipped: CTKVR_TEST_MODEL names no GGUF file)'}`;

/** `npm run test:model` asks for more. */
const numSchemas = Number(process.env.CTKVR_TEST_SCHEMAS ?? 3);

const parameters = {
  type: 'object',
  properties: { city: { type: 'string', maxLength: 20 }, unit: { enum: ['celsius', 'fahrenheit'] } },
  required: ['city', 'unit'],
  additionalProperties: false,
};
const question = { role: 'user' as const, content: 'What is the weather in Paris? Use the tool.' };
const weather = { city: expect.any(String), unit: expect.stringMatching(/^(celsius|fahrenheit)$/) };

describe.skipIf(!modelPath)(title, { timeout: 1_200_000 }, () => {
  let server: RunningServer;
  let client: OpenAI;

  beforeAll(async () => {
    server = await startModelServer(modelPath!, { contextLength: 4096, load: { numThreads: 1 } });
    // Other programs on the machine can make a token take seconds.
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0, timeout: 1_200_000 });
  }, 120_000);

  afterAll(async () => {
    await server?.close();
  });

  const chat = { model: 'test-model', messages: [question], max_completion_tokens: 400 };
  const format = (schema: Schema) => ({
    type: 'json_schema' as const,
    json_schema: { name: 'answer', schema, strict: true },
  });

  test(`answers validate against ${numSchemas} random schemas`, {
    timeout: 120_000 + numSchemas * 60_000,
  }, async () => {
    const ajv = new Ajv2020({ validateFormats: false });
    let [numTokens, longest] = [0, 0];
    for (const [seed, schema] of randomSchemas(numSchemas, 5).entries()) {
      const answer = await client.chat.completions.create({
        ...chat,
        messages: [{ role: 'user', content: 'Write an example as JSON.' }],
        seed,
        response_format: format(schema),
        max_completion_tokens: 1500,
      });
      const [choice] = answer.choices;
      numTokens += answer.usage!.completion_tokens;
      longest = Math.max(longest, answer.usage!.completion_tokens);
      expect([choice?.finish_reason, JSON.stringify(schema)]).toEqual(['stop', JSON.stringify(schema)]);
      const isValid = ajv.validate(schema, JSON.parse(choice?.message.content ?? ''));
      expect([isValid, ajv.errorsText(), choice?.message.content]).toEqual([
        true,
        'No errors',
        choice?.message.content,
      ]);
    }
    process.stderr.write(`${numSchemas} answers of ${numTokens} tokens, the longest of ${longest}\n`);
  });

  test('a schema gives the same answer in a chat completion, its stream, and a response', async () => {
    const asked = { ...chat, temperature: 0, response_format: format(parameters) };
    const whole = (await client.chat.completions.create(asked)).choices[0]?.message.content;
    expect(JSON.parse(whole!)).toEqual(weather);
    const stream = client.chat.completions.stream(asked);
    expect((await stream.finalChatCompletion()).choices[0]?.message.content).toBe(whole);
    const response = await client.responses.create({
      model: 'test-model',
      input: question.content,
      temperature: 0,
      text: { format: { type: 'json_schema', name: 'answer', schema: parameters } },
    });
    expect(response.output_text).toBe(whole);
  });

  test('any JSON object, with log probabilities of its tokens', async () => {
    const answer = await client.chat.completions.create({
      ...chat,
      messages: [{ role: 'user', content: 'Give me JSON of a cat.' }],
      seed: 1,
      max_completion_tokens: 30,
      logprobs: true,
      response_format: { type: 'json_object' },
    });
    const [choice] = answer.choices;
    expect(choice?.message.content?.startsWith('{')).toBe(true);
    const spelled = choice?.logprobs?.content?.map(({ token }) => token).join('');
    expect(spelled).toBe(choice?.message.content);
  });

  test('an unsupported keyword is refused by name', async () => {
    const schema = { type: 'object', dependentSchemas: { a: {} } };
    const asked = client.chat.completions.create({ ...chat, response_format: format(schema) });
    await expect(asked).rejects.toMatchObject({
      status: 400,
      param: 'response_format.json_schema',
      message: expect.stringContaining('dependentSchemas'),
    });
  });

  const tools = [
    { type: 'function' as const, function: { name: 'get_weather', description: 'Weather in a city', parameters } },
    { type: 'function' as const, function: { name: 'stop', parameters: { type: 'object', properties: {} } } },
  ];

  test('OpenAI’s client gets the call that has to come, whole and streamed, and goes on with its result', async () => {
    const tool_choice = { type: 'function' as const, function: { name: 'get_weather' } };
    const asked = { ...chat, temperature: 0, tools, tool_choice, parallel_tool_calls: false };
    const [choice] = (await client.chat.completions.create(asked)).choices;
    expect(choice).toMatchObject({ finish_reason: 'tool_calls', message: { content: null } });
    const [call] = choice!.message.tool_calls!;
    const called = call as OpenAI.ChatCompletionMessageFunctionToolCall;
    expect(called.function.name).toBe('get_weather');
    expect(JSON.parse(called.function.arguments)).toEqual(weather);
    const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
    expect(streamed.choices[0]?.finish_reason).toBe('tool_calls');
    const [again] = streamed.choices[0]!.message.tool_calls!;
    expect((again as typeof called).function.arguments).toBe(called.function.arguments);
    const result = { role: 'tool' as const, tool_call_id: called.id, content: '18 degrees' };
    const next = await client.chat.completions.create({
      ...chat,
      messages: [question, choice!.message, result],
      tools,
      max_completion_tokens: 8,
    });
    expect(next.usage!.prompt_tokens).toBeGreaterThan(150); // the tools are in the prompt
  });

  test('a response has the call as an item', async () => {
    const response = await client.responses.create({
      model: 'test-model',
      input: question.content,
      temperature: 0,
      tools: [{ type: 'function', name: 'get_weather', parameters, strict: true }],
      tool_choice: 'required',
      parallel_tool_calls: false,
    });
    expect(response.output).toHaveLength(1);
    const [item] = response.output;
    expect(item).toMatchObject({ type: 'function_call', name: 'get_weather', status: 'completed' });
    expect(JSON.parse((item as { arguments: string }).arguments)).toEqual(weather);
  });

  test('Anthropic’s client gets a block of a call, whole and streamed', async () => {
    const anthropic = new Anthropic({ baseURL: server.url, apiKey: 'none', maxRetries: 0 });
    const asked = {
      model: 'test-model',
      max_tokens: 400,
      temperature: 0,
      messages: [question],
      tools: [{ name: 'get_weather', input_schema: parameters as Anthropic.Tool.InputSchema }],
      tool_choice: { type: 'any' as const, disable_parallel_tool_use: true },
    };
    const whole = await anthropic.messages.create(asked);
    expect(whole.stop_reason).toBe('tool_use');
    expect(whole.content).toMatchObject([{ type: 'tool_use', name: 'get_weather', input: weather }]);
    const streamed = await anthropic.messages.stream(asked).finalMessage();
    expect(streamed.content).toMatchObject([
      { type: 'tool_use', input: (whole.content[0] as { input: object }).input },
    ]);
    const counted = await anthropic.messages.countTokens({
      model: 'test-model',
      messages: [question],
      tools: asked.tools,
    });
    expect(counted.input_tokens).toBe(whole.usage.input_tokens + whole.usage.cache_read_input_tokens!);
  });

  test('an answer that calls nothing is text', async () => {
    const answer = await client.chat.completions.create({
      ...chat,
      messages: [{ role: 'user', content: 'Name the capital of France.' }],
      temperature: 0,
      max_completion_tokens: 12,
      tools,
    });
    const [choice] = answer.choices;
    if (choice?.message.tool_calls === undefined) expect(choice?.message.content).not.toBe('');
    else expect(choice.finish_reason).toBe('tool_calls');
  });
});
