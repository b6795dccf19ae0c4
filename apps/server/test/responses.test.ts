/** POST /v1/responses: what is its own; running and queueing are those of every protocol (routes.test.ts). */
import { describe, expect, test } from 'vitest';
import { createApp } from '../src/index.js';
import { EchoEngine } from './echo-engine.js';
import { newAnswerTo } from './new-answer.js';
import { readEvents } from './read-events.js';

async function post(more: object) {
  const engine = new EchoEngine();
  const response = await createApp({ engine }).request('/v1/responses', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'echo', ...more }),
  });
  return { response, request: engine.lastRequest };
}

const user = { role: 'user', content: 'Look at the sea.' };
const call = (id: string, at: string) => ({
  type: 'function_call',
  id: `fc_${id}`,
  call_id: id,
  name: 'look',
  arguments: JSON.stringify({ at }),
});
const toolCall = (id: string, at: string) => ({ id, type: 'function', function: { name: 'look', arguments: { at } } });
const result = (id: string, output: unknown) => ({ type: 'function_call_output', call_id: id, output });

describe('the input becomes messages', () => {
  test.each<[string, object, object[]]>([
    ['a text', { input: 'hi' }, [{ role: 'user', content: 'hi' }]],
    [
      'instructions and roles',
      { instructions: 'be kind', input: [{ role: 'developer', content: 'be short' }, user] },
      [{ role: 'system', content: 'be kind' }, { role: 'system', content: 'be short' }, user],
    ],
    [
      'an earlier answer, with its reasoning',
      {
        input: [
          user,
          { type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: 'x' },
          {
            type: 'message',
            id: 'msg_1',
            status: 'completed',
            role: 'assistant',
            content: [
              { type: 'output_text', text: 'Grey', annotations: [], logprobs: [] },
              { type: 'output_text', text: '.' },
            ],
          },
          { role: 'user', content: [{ type: 'input_text', text: 'Again.' }] },
        ],
      },
      [user, { role: 'assistant', content: 'Grey.' }, { role: 'user', content: 'Again.' }],
    ],
    [
      'calls and results',
      {
        input: [
          user,
          { role: 'assistant', content: 'I look.' },
          call('a', 'sea'),
          call('b', 'sky'),
          result('a', 'grey'),
          result('b', [{ type: 'input_text', text: 'blue' }]),
          call('c', 'land'),
          result('c', 'green'),
        ],
      },
      [
        user,
        { role: 'assistant', content: 'I look.', tool_calls: [toolCall('a', 'sea'), toolCall('b', 'sky')] },
        { role: 'tool', content: 'grey', tool_call_id: 'a' },
        { role: 'tool', content: 'blue', tool_call_id: 'b' },
        { role: 'assistant', content: '', tool_calls: [toolCall('c', 'land')] },
        { role: 'tool', content: 'green', tool_call_id: 'c' },
      ],
    ],
  ])('%s', async (_name, more, messages) => {
    const { response, request } = await post(more);
    expect(response.status).toBe(200);
    expect(request?.prompt).toEqual(newAnswerTo(messages));
  });
});

describe('what cannot be read is refused by name', () => {
  test.each<[string, object, string, string]>([
    ['no role', { input: [{ content: 'x' }] }, 'input[0].role', 'missing_required_parameter'],
    ['no content', { input: [{ role: 'user' }] }, 'input[0].content', 'missing_required_parameter'],
    ['no name', { input: [{ ...call('a', 'sea'), name: null }] }, 'input[0].name', 'missing_required_parameter'],
    ['no call', { input: [{ ...result('a', 'x'), call_id: null }] }, 'input[0].call_id', 'missing_required_parameter'],
    ['no item', { input: [] }, 'input', 'invalid_value'],
    ['a kind', { input: [user, { type: 'computer_call', id: 'x' }] }, 'input[1].type', 'invalid_value'],
    ['a reference', { input: [{ type: 'item_reference', id: 'msg_1' }] }, 'input[0].id', 'unsupported_parameter'],
    ['a reference to nothing', { input: [{ type: 'item_reference' }] }, 'input[0].type', 'invalid_value'],
    [
      'an image',
      { input: [{ role: 'user', content: [{ type: 'input_image', image_url: 'x' }] }] },
      'input[0].content[0].type',
      'invalid_value',
    ],
    ['memory', { input: 'x', previous_response_id: 'resp_1' }, 'previous_response_id', 'unsupported_parameter'],
    ['too much', { input: 'w '.repeat(100) }, 'input', 'context_length_exceeded'],
    ['what the template refuses', { input: '!refuse' }, 'input', 'invalid_value'],
  ])('%s', async (_name, more, param, code) => {
    const { response } = await post(more);
    expect(response.status).toBe(400);
    const { error } = (await response.json()) as { error: { message: string } };
    expect(error).toMatchObject({ type: 'invalid_request_error', param, code });
    expect(error.message).not.toMatch(/undefined|something else/);
  });
});

const usage = {
  input_tokens: 3,
  input_tokens_details: { cached_tokens: 0 },
  output_tokens: 3,
  output_tokens_details: { reasoning_tokens: 0 },
  total_tokens: 6,
};

test('a whole answer is one message', async () => {
  const { response } = await post({ input: 'one two three', store: true, metadata: { of: 'mine' } });
  expect(await response.json()).toMatchObject({
    id: expect.stringMatching(/^resp_/),
    object: 'response',
    status: 'completed',
    model: 'echo',
    error: null,
    incomplete_details: null,
    store: false,
    metadata: { of: 'mine' },
    output: [
      {
        id: expect.stringMatching(/^msg_/),
        type: 'message',
        status: 'completed',
        role: 'assistant',
        content: [{ type: 'output_text', text: 'one two three ', annotations: [], logprobs: [] }],
      },
    ],
    usage,
    ctkvr: { ms_per_token: 1 },
  });
});

test('an answer that was cut is incomplete', async () => {
  const { response } = await post({ input: 'one two three', max_output_tokens: 2 });
  expect(await response.json()).toMatchObject({
    status: 'incomplete',
    incomplete_details: { reason: 'max_output_tokens' },
    output: [{ status: 'incomplete', content: [{ text: 'one two ' }] }],
  });
});

describe('a stream', () => {
  test('has the events of one message, numbered, under their names', async () => {
    const { response } = await post({ input: 'one two three', stream: true });
    const names = (await response.clone().text()).match(/(?<=^event: ).*$/gm);
    const events = await readEvents(response);
    expect(events.map(({ type }) => type)).toEqual(names);
    expect(names).toEqual([
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.delta',
      'response.output_text.delta',
      'response.output_text.delta',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.completed',
    ]);
    expect(events.map((event) => event.sequence_number)).toEqual(events.map((_event, index) => index));
    const ofText = events.filter(({ type }) => /output_text|content_part/.test(type));
    const { id } = events[2].item;
    for (const event of ofText) expect(event).toMatchObject({ item_id: id, output_index: 0, content_index: 0 });
    expect(events[7].text).toBe('one two three ');
    const whole = events.at(-1).response;
    expect(whole).toMatchObject({ id: events[0].response.id, status: 'completed', usage });
    expect(whole.output).toEqual([events[9].item]);
  });

  test('that was cut ends incomplete', async () => {
    const { response } = await post({ input: 'one two three', stream: true, max_output_tokens: 1 });
    expect((await readEvents(response)).at(-1)).toMatchObject({
      type: 'response.incomplete',
      response: { status: 'incomplete', incomplete_details: { reason: 'max_output_tokens' } },
    });
  });

  test('that fails says so, and is not completed', async () => {
    const { response } = await post({ input: 'a !fail', stream: true });
    const [error, failed] = (await readEvents(response)).slice(-2);
    const said = { code: 'internal_error', message: expect.stringContaining('failed') };
    expect(error).toMatchObject({ type: 'error', ...said, param: null, error: { type: 'server_error' } });
    expect(failed).toMatchObject({ type: 'response.failed', response: { status: 'failed', error: said } });
  });
});

describe('log probabilities', () => {
  const include = ['message.output_text.logprobs'];
  const token = (word: string) => ({
    token: word,
    logprob: -Math.LN2,
    bytes: [...Buffer.from(word)],
    top_logprobs: [{ token: word[0], logprob: -2, bytes: [word.charCodeAt(0)] }],
  });
  const expected = [token('one '), token('two ')];

  test('are in the part of a whole answer', async () => {
    const { response } = await post({ input: 'one two', include, top_logprobs: 1 });
    expect(await response.json()).toMatchObject({
      top_logprobs: 1,
      output: [{ content: [{ text: 'one two ', logprobs: expected }] }],
    });
  });

  test('come with the text of a stream, and once more with its end', async () => {
    const { response } = await post({ input: 'one two', include, top_logprobs: 1, stream: true });
    const events = await readEvents(response);
    const of = (type: string) => events.filter((event) => event.type === type);
    expect(of('response.output_text.delta').flatMap(({ logprobs }) => logprobs)).toEqual(expected);
    expect(of('response.output_text.done')[0].logprobs).toEqual(expected);
    expect(of('response.content_part.done')[0].part.logprobs).toEqual(expected);
  });

  test('of others than the tokens themselves need those', async () => {
    const { response } = await post({ input: 'one', top_logprobs: 1 });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { param: 'top_logprobs', code: 'invalid_value' } });
  });
});
