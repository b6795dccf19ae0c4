import { describe, expect, test } from 'vitest';
import type { ChatEvent, ScoredToken } from '../../src/chat-engine.js';
import type { GenerationRequest } from '../../src/generation-request.js';
import { toMessagesPrompt } from '../../src/generation-request.js';
import { toGeneration } from '../../src/to-generation.js';
import { planAnswer } from '../../src/tools/answer-plan.js';
import { callFormatOf } from '../../src/tools/call-format.js';
import { readAnswer } from '../../src/tools/read-answer.js';
import type { ToolUse } from '../../src/tools/tool-use.js';
import { withTools } from '../../src/tools/tools-in-prompt.js';

const look = { name: 'look', description: null, parameters: { type: 'object', properties: {} } };
const use: ToolUse = { tools: [look], choice: 'auto', parallel: true, field: 'tools' };
const user = { role: 'user' as const, content: 'hi' };

describe('the format of calls by the template', () => {
  test.each([
    ['Qwen and Hermes', '{%- if tools %}<tool_call>{{ tool_calls }}', '<tool_call>', true],
    ['Llama 3', '{% if tools is not none %}{"name": f, "parameters": d}', '<|python_tag|>', true],
    ['Mistral', '{{ tools }}[TOOL_CALLS]', '[TOOL_CALLS]', true],
    ['one of XML', '{{ tools }}<tool_call>\n<function=', '<tool_call>', false],
    ['a newer Mistral', '{{ tools }}[TOOL_CALLS]name[ARGS]', '<tool_call>', false],
    ['no tools', '{{ messages }}', '<tool_call>', false],
    ['no tools, but calls of a history', '{{ messages }} <tool_call>', '<tool_call>', false],
  ])('%s', (_name, template, opener, showsTools) => {
    expect(callFormatOf(template)).toMatchObject({ format: { opener }, showsTools });
  });
});

describe('tools in a prompt', () => {
  test('a template that shows them gets them', () => {
    const tools = [{ type: 'function', function: { name: 'look', parameters: look.parameters } }];
    expect(withTools([user], use, '{{ tools }}<tool_call>')).toEqual({ messages: [user], variables: { tools } });
  });

  test('another one gets them as a system message, or behind the one that is there', () => {
    const { messages, variables } = withTools([user], use, '');
    expect(variables).toEqual({});
    expect(messages.map(({ role }) => role)).toEqual(['system', 'user']);
    expect(messages[0]?.content).toContain('{"type":"function","function":{"name":"look"');
    const behind = withTools([{ role: 'system', content: 'Be kind.' }, user], use, '').messages;
    expect(behind.map(({ role }) => role)).toEqual(['system', 'user']);
    expect(behind[0]?.content).toBe(`Be kind.\n\n${messages[0]?.content}`);
  });

  test('no tools change nothing', () => {
    expect(withTools([user], null, '')).toEqual({ messages: [user], variables: {} });
  });
});

describe('the plan of an answer', () => {
  const thinks = '{{ tools }}<tool_call><think></think>';
  const request = (
    more: Partial<GenerationRequest> = {},
    ending: 'answer' | 'continue' = 'answer',
    toolUse: ToolUse | null = null,
  ) => ({
    ...toGeneration({}, { prompt: toMessagesPrompt([user], { ending, toolUse }), maxTokens: null }),
    ...more,
  });
  const plan = (given: GenerationRequest, { template = thinks, promptEnd = 'assistant\n' } = {}) =>
    planAnswer({
      request: given,
      template,
      promptEnd,
      controlTokens: [
        { text: '<think>', tokenId: 7 },
        { text: '<tool_call>', tokenId: 8 },
        { text: '<|im_end|>', tokenId: 9 },
      ],
    });
  const parts = (given: ReturnType<typeof plan>, answer: string) => {
    const parser = given.newParser!();
    return [...parser.push(answer), ...parser.end()].map(({ type }) => type);
  };

  test('without tools, thoughts and JSON an answer is free, and text', () => {
    expect(plan(request(), { template: '' })).toMatchObject({ grammar: null, newParser: null });
    const text = request({ prompt: { type: 'text', text: 'x <think>', addSpecial: true } });
    expect(plan(text, { promptEnd: 'x <think>' }).newParser).toBe(null);
    expect(plan(request({}, 'continue')).newParser).toBe(null);
    expect(plan(request(), { promptEnd: '<think>\n\n</think>\n\n' }).newParser).toBe(null); // told not to think
  });

  test('thoughts are looked for where the model begins them, or the prompt has', () => {
    expect(parts(plan(request()), '<think>a</think>b')).toEqual(['thinking', 'text']);
    expect(parts(plan(request(), { promptEnd: '<think>\n' }), 'a</think>b')).toEqual(['thinking', 'text']);
  });

  test('tags that are control tokens become text, others do not', () => {
    expect([...plan(request()).tags]).toEqual([[7, '<think>']]);
    expect([...plan(request({}, 'answer', use)).tags]).toEqual([
      [7, '<think>'],
      [8, '<tool_call>'],
    ]);
  });

  test('calls are bound where they have to come, and texts where a schema is asked for', () => {
    expect(plan(request({}, 'answer', use)).grammar).toBe(null);
    const must = plan(request({}, 'answer', { ...use, choice: 'required' })).grammar;
    expect(must).toMatchObject({ field: 'tools', source: { type: 'lark', grammar: expect.stringContaining('<[8]>') } });
    const json = { schema: { type: 'object' }, field: 'response_format' };
    expect(plan(request({ json })).grammar).toMatchObject({ field: 'response_format' });
  });

  test('every answer has a parser and ids of its own', () => {
    const { newParser } = plan(request({}, 'answer', use), { template: '{{ tools }}<tool_call>' });
    const call = '<tool_call>{"name":"look"}</tool_call>';
    const ids = [newParser!(), newParser!()].flatMap((parser) =>
      parser.push(call + call).flatMap((part) => (part.type === 'toolCall' ? [part.call.id] : [])),
    );
    expect(new Set(ids).size).toBe(4);
    for (const id of ids) expect(id).toMatch(/^[a-z2-7]{9}$/);
  });
});

test('scored tokens go with the first part after them, and none is lost', async () => {
  const token = (text: string): ScoredToken => ({ bytes: Buffer.from(text), logprob: -1, top: [] });
  const pieces = ['<thi', 'nk>', 'a', '</think>', 'b', ' <tool_call>', '{"name":"look"}', '</tool_call>', '\n'];
  async function* events(): AsyncGenerator<ChatEvent> {
    yield { type: 'opened' };
    for (const text of pieces) yield { type: 'text', text, tokens: [token(text)] };
    const statistics = {
      time_to_first_token_ms: 1,
      ms_per_token: 1,
      ms_by_stage: null,
      keys_read_per_head: null,
      keys_per_head: null,
      attention_mass: null,
    };
    yield {
      type: 'finish',
      finish: { reason: 'stop', stopString: null, numCompletionTokens: 9, numCachedTokens: 0, statistics },
    };
  }
  const prompt = toMessagesPrompt([user], { toolUse: use });
  const { newParser } = planAnswer({
    request: toGeneration({}, { prompt, maxTokens: null }),
    template: '{{ tools }}<tool_call><think></think>',
    promptEnd: '',
    controlTokens: [],
  });
  const read: ChatEvent[] = [];
  for await (const event of readAnswer(events(), { newParser })) read.push(event);
  expect(read.map(({ type }) => type)).toEqual(['opened', 'thinking', 'text', 'toolCall', 'text', 'finish']);
  const told = read.flatMap((event) => ('tokens' in event ? (event.tokens ?? []) : []));
  expect(told.map(({ bytes }) => Buffer.from(bytes).toString())).toEqual(pieces);
  expect(read.at(-1)).toMatchObject({ finish: { reason: 'toolCalls' } });
});
