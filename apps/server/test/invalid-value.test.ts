/** What a client is told about a value that is none: field, what it must be, what came. */
import { expect, test } from 'vitest';
import { parseChatRequest } from '../src/chat-request.js';

const hello = { model: 'echo', messages: [{ role: 'user', content: 'one' }] };

test.each<[unknown, string]>([
  [{ messages: hello.messages }, "'model' must be a text that is not empty, got nothing"],
  [{ ...hello, model: 7 }, "'model' must be a text that is not empty, got 7"],
  [{ ...hello, messages: [] }, "'messages' must be a list of at least 1 object, got an empty list"],
  [{ ...hello, messages: 'hi' }, `'messages' must be a list of at least 1 object, got "hi"`],
  [{ ...hello, messages: ['hi'] }, `'messages[0]' must be an object, got "hi"`],
  [
    { ...hello, messages: [{ role: 'user' }] },
    "'messages[0].content' must be a text, or a list of text parts, got nothing",
  ],
  [
    { ...hello, messages: [{ role: 'wizard', content: 'x' }] },
    `'messages[0].role' must be "system" or "developer" or "user" or "assistant" or "tool", got "wizard"`,
  ],
  [
    { ...hello, messages: [{ role: 'user', content: [{ type: 'text', text: 'x' }, { type: 'text' }] }] },
    "'messages[0].content[1].text' must be a text, got nothing",
  ],
  [
    { ...hello, messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
    `'messages[0].content[0].type' must be "text", got "image_url"`,
  ],
  [{ ...hello, temperature: 3 }, "'temperature' must be a number from 0 to 2, got 3"],
  [{ ...hello, top_p: 0 }, "'top_p' must be a number above 0 and at most 1, got 0"],
  [{ ...hello, max_tokens: 1.5 }, "'max_tokens' must be an integer of at least 1, got 1.5"],
  [{ ...hello, seed: 'x'.repeat(1000) }, `'seed' must be an integer, got "${'x'.repeat(60)}…"`],
  [
    { ...hello, stop: '' },
    `'stop' must be a text that is not empty, or a list of at most 64 texts, none empty, got ""`,
  ],
  [{ ...hello, stream: {} }, "'stream' must be true or false, got an object"],
  [
    { ...hello, stream: true, stream_options: { include_usage: 1 } },
    "'stream_options.include_usage' must be true or false, got 1",
  ],
  [[], 'the body must be an object, got an empty list'],
])('%j', (body, message) => {
  expect(() => parseChatRequest(body)).toThrow(expect.objectContaining({ status: 400, message }));
});
