/** What a chat's history becomes, and where its prompt ends. */
import { describe, expect, test } from 'vitest';
import { parseChatRequest } from '../src/index.js';
import { newAnswerTo } from './new-answer.js';

const promptOf = (messages: object[], more: object = {}) =>
  parseChatRequest({ model: 'echo', messages, ...more }).generation.prompt;
const user = (content: unknown) => ({ role: 'user', content });
const assistant = (content: unknown, more: object = {}) => ({ role: 'assistant', content, ...more });
const call = { id: 'a', type: 'function', function: { name: 'look', arguments: '{"at": "sea"}' } };
const rendered = { id: 'a', type: 'function', function: { name: 'look', arguments: { at: 'sea' } } };

describe('messages', () => {
  test.each<[string, object[], object[]]>([
    ['an empty content', [user(''), assistant(''), user(' ')], [user(''), assistant(''), user(' ')]],
    [
      'a call without content, and its result',
      [user('Look.'), assistant(null, { tool_calls: [call] }), { role: 'tool', tool_call_id: 'a', content: 'grey' }],
      [
        user('Look.'),
        { role: 'assistant', content: '', tool_calls: [rendered] },
        { role: 'tool', content: 'grey', tool_call_id: 'a' },
      ],
    ],
    [
      'a call with content and without arguments, and a result of parts',
      [
        user('Look.'),
        assistant('I look.', { tool_calls: [{ function: { name: 'look' } }] }),
        { role: 'tool', content: [{ type: 'text', text: 'grey' }] },
      ],
      [
        user('Look.'),
        assistant('I look.', { tool_calls: [{ id: '', type: 'function', function: { name: 'look', arguments: {} } }] }),
        { role: 'tool', content: 'grey' },
      ],
    ],
    [
      'calls that are none',
      [user('x'), assistant('y', { tool_calls: [] }), user('z')],
      [user('x'), assistant('y'), user('z')],
    ],
  ])('%s', (_name, messages, expected) => {
    expect(promptOf(messages)).toEqual(newAnswerTo(expected));
  });

  test.each<[string, object, string]>([
    ['a call of a user', user('x'), 'tool_calls'],
    ['a result of a user', { ...user('x'), tool_call_id: 'a' }, 'tool_call_id'],
    ['no content', { role: 'tool', tool_call_id: 'a' }, 'content'],
    ['no content beside no call', assistant(null, { tool_calls: [] }), 'content'],
    ['another kind of call', assistant(null, { tool_calls: [{ ...call, type: 'custom' }] }), 'tool_calls[0].type'],
    ['a call without a name', assistant(null, { tool_calls: [{ function: {} }] }), 'tool_calls[0].function.name'],
  ])('with %s are refused', (name, message, field) => {
    const bad = name === 'a call of a user' ? { ...message, tool_calls: [call] } : message;
    expect(() => promptOf([bad])).toThrow(expect.objectContaining({ status: 400, param: `messages[0].${field}` }));
  });
});

describe('the prompt ends', () => {
  const open = [user('Count.'), assistant('1, 2,')];
  const closed = [user('Count.')];
  const called = [user('Look.'), assistant(null, { tool_calls: [call] })];

  test.each<[string, object[], object, string]>([
    ['with a question: a new answer', closed, {}, 'answer'],
    ['with an answer: it goes on', open, {}, 'continue'],
    [
      'with an answer and as vLLM’s clients ask for it',
      open,
      { continue_final_message: true, add_generation_prompt: false },
      'continue',
    ],
    ['with an answer that is marked', [closed[0]!, assistant('1, 2,', { prefix: true })], {}, 'continue'],
    ['with an answer that is not to go on', open, { continue_final_message: false }, 'answer'],
    ['with a call: a new answer', called, {}, 'answer'],
    ['where the messages end', closed, { add_generation_prompt: false }, 'none'],
    ['where the answer ends', open, { continue_final_message: false, add_generation_prompt: false }, 'none'],
  ])('%s', (_name, messages, more, ending) => {
    expect(promptOf(messages, more)).toMatchObject({ ending });
  });

  test.each<[object[], object, string]>([
    [closed, { continue_final_message: true }, 'continue_final_message'],
    [called, { continue_final_message: true }, 'continue_final_message'],
    [[{ ...user('x'), prefix: true }], {}, 'messages[0].prefix'],
    [[assistant('x', { prefix: true }), assistant('y')], {}, 'messages[0].prefix'],
  ])('not in %j with %j', (messages, more, param) => {
    expect(() => promptOf(messages, more)).toThrow(expect.objectContaining({ status: 400, param }));
  });
});

test('variables that the request sets otherwise are refused', () => {
  for (const name of ['messages', 'add_generation_prompt', 'bos_token', 'eos_token']) {
    expect(() => promptOf([user('x')], { chat_template_kwargs: { [name]: true } })).toThrow(
      expect.objectContaining({ status: 400, param: `chat_template_kwargs.${name}` }),
    );
  }
});
