import { describe, expect, test } from 'vitest';
import type { ChatMessage } from '../src/index.js';
import { toToolCall, withToolsAsText } from '../src/tools-as-text.js';

const call = toToolCall({ id: 'a', name: 'look', args: '{"at": "sea"}' });
const other = toToolCall({ id: 'b', name: 'listen', args: 'not JSON' });
const history: ChatMessage[] = [
  { role: 'user', content: 'Look.' },
  { role: 'assistant', content: 'I look.', tool_calls: [call, other] },
  { role: 'tool', content: 'grey', tool_call_id: 'a' },
  { role: 'tool', content: 'waves', tool_call_id: 'b' },
  { role: 'assistant', content: '', tool_calls: [call] },
  { role: 'tool', content: 'still grey', tool_call_id: 'a' },
  { role: 'assistant', content: 'It is grey.' },
];
const callText = '<tool_call>\n{"name":"look","arguments":{"at":"sea"}}\n</tool_call>';
const otherText = '<tool_call>\n{"name":"listen","arguments":"not JSON"}\n</tool_call>';

describe('calls and results in a history', () => {
  test('are left to a template that knows them', () => {
    const template = "{% if message.tool_calls %}…{% elif message.role == 'tool' %}…";
    expect(withToolsAsText(history, template)).toEqual(history);
  });

  test('become text for one that does not; results that belong together are one turn', () => {
    expect(withToolsAsText(history, '{{ message.role }}{{ message.content }}')).toEqual([
      { role: 'user', content: 'Look.' },
      { role: 'assistant', content: `I look.\n${callText}\n${otherText}` },
      {
        role: 'user',
        content: '<tool_response>\ngrey\n</tool_response>\n<tool_response>\nwaves\n</tool_response>',
      },
      { role: 'assistant', content: callText },
      { role: 'user', content: '<tool_response>\nstill grey\n</tool_response>' },
      { role: 'assistant', content: 'It is grey.' },
    ]);
  });

  test('become text each by itself', () => {
    expect(withToolsAsText(history, 'tool_calls').map(({ role }) => role)).not.toContain('tool');
    expect(withToolsAsText(history, '"tool"')[1]?.content).toContain(callText);
  });
});

test.each(['[1]', '"x"', '7', 'null', '{'])('arguments %j are no object and stay text', (args) => {
  expect(toToolCall({ id: 'a', name: 'look', args }).function.arguments).toBe(args);
});

test('arguments that are nested deeper than the stack stay text', () => {
  const deep = `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`;
  const call = toToolCall({ id: 'a', name: 'look', args: deep });
  expect(call.function.arguments).toBe(deep);
  expect(withToolsAsText([{ role: 'assistant', content: '', tool_calls: [call] }], '')).toHaveLength(1);
});
