/** Grammars of calls and of JSON in every format: what a real model writes under them, the parser takes apart. */
import { loadModel, type Model } from '@ctkvr/model-runner';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type AnswerBounds, answerGrammar } from '../../src/tools/answer-grammar.js';
import { AnswerParser, type AnswerPart } from '../../src/tools/answer-parser.js';
import { callFormatOf } from '../../src/tools/call-format.js';
import { callableTools, type Tool, type ToolUse } from '../../src/tools/tool-use.js';

const modelPath = process.env.CTKVR_TEST_MODEL;
const title = `grammars of answers${modelPath ? '' : ' (skipped: CTKVR_TEST_MODEL names no GGUF file)'}`;

const look: Tool = {
  name: 'look',
  description: null,
  parameters: {
    type: 'object',
    properties: { at: { $ref: '#/$defs/place' } },
    required: ['at'],
    additionalProperties: false,
    $defs: { place: { enum: ['sea', 'sky'] } },
  },
};
const sail: Tool = {
  name: 'sail',
  description: null,
  parameters: { type: 'object', properties: {}, additionalProperties: false },
};

const formats = [
  ['Hermes', '{{ tools }} <tool_call>'],
  ['Llama 3', '{{ tools }} "parameters": '],
  ['Mistral', '{{ tools }} [TOOL_CALLS]'],
] as const;

describe.skipIf(!modelPath)(title, { timeout: 240_000 }, () => {
  let model: Model;

  beforeAll(async () => {
    model = await loadModel(modelPath!, { numThreads: 1 });
  }, 120_000);

  afterAll(async () => {
    await model?.close();
  });

  async function write(bounds: AnswerBounds, seed: number): Promise<AnswerPart[]> {
    const { toolUse, format, thinking } = bounds;
    const names = new Set(toolUse === null ? [] : callableTools(toolUse).map(({ name }) => name));
    const calls = toolUse === null ? null : { format, names, parallel: toolUse.parallel, newId: () => 'id' };
    const parser = new AnswerParser({ calls, thinking });
    await using session = model.createSession();
    await session.prefill([{ role: 'user', content: 'Look at the sea, or sail.' }]);
    const parts: AnswerPart[] = [];
    const grammar = answerGrammar(bounds)!;
    const sampling = { temperature: 1, topK: 0, topP: 1, minP: 0, seed };
    for await (const { text } of session.generate({ grammar, maxTokens: 400, sampling }))
      parts.push(...parser.push(text));
    expect(session.lastFinish?.reason).toBe('stop');
    return [...parts, ...parser.end()];
  }

  const bounds = (template: string, more: Partial<AnswerBounds>): AnswerBounds => ({
    json: null,
    toolUse: null,
    format: callFormatOf(template).format,
    thinking: 'none',
    tokenIdOf: () => null,
    ...more,
  });
  const use = (more: Partial<ToolUse>): ToolUse => ({
    tools: [look, sail],
    choice: 'required',
    parallel: false,
    field: 'tools',
    ...more,
  });

  describe.each(formats)('%s', (_name, template) => {
    test.each([1, 2])('a call that has to come is one call, with arguments of its schema: seed %i', async (seed) => {
      const parts = await write(bounds(template, { toolUse: use({}) }), seed);
      expect(parts).toHaveLength(1);
      const call = parts[0]?.type === 'toolCall' ? parts[0].call : null;
      const args = JSON.parse(call!.arguments) as Record<string, unknown>;
      expect(args).toEqual(call?.name === 'look' ? { at: expect.stringMatching(/^(sea|sky)$/) } : {});
    });

    test('the tool that was chosen is called', async () => {
      const parts = await write(bounds(template, { toolUse: use({ choice: { name: 'sail' } }) }), 1);
      expect(parts).toEqual([{ type: 'toolCall', call: { id: 'id', name: 'sail', arguments: '{}' } }]);
    });

    test('parallel calls are calls and nothing else', async () => {
      const grammar = answerGrammar(bounds(template, { toolUse: use({ parallel: true }) }))!;
      await model.compileGrammar(grammar);
      await expect(model.compileGrammar({ ...grammar, grammar: 'start: gone' } as never)).rejects.toThrow(/gone/);
    });

    test('beside JSON an answer is one or the other', async () => {
      const json = { schema: { enum: [7] }, field: 'response_format' };
      const parts = await write(bounds(template, { json, toolUse: use({ choice: 'auto' }) }), 1);
      const isJson = parts.every((part) => part.type === 'text') && parts.length > 0;
      if (isJson) expect(parts.map((part) => (part as { text: string }).text).join('')).toBe('7');
      else expect(parts.map(({ type }) => type)).toEqual(['toolCall']);
    });
  });

  test('thoughts may come before JSON', async () => {
    const json = { schema: { enum: [7] }, field: 'response_format' };
    await model.compileGrammar(answerGrammar(bounds('', { json, thinking: 'possible' }))!);
    await using session = model.createSession();
    await session.prefill('Q: 1? <think>a</think>7\nQ: 2? <think>b</think>7\nQ: 3? <think>c</think>7\nQ: 4? <think>d');
    const grammar = answerGrammar(bounds('', { json, thinking: 'begun' }))!;
    const parser = new AnswerParser({ calls: null, thinking: 'begun' });
    const parts: AnswerPart[] = [];
    for await (const { text } of session.generate({ grammar, maxTokens: 30 })) parts.push(...parser.push(text));
    expect([...parts, ...parser.end()].at(-1)).toEqual({ type: 'text', text: '7' });
    expect(session.lastFinish?.reason).toBe('stop');
  });
});
