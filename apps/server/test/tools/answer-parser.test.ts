/** Answers of every format, cut at every place, and at random: the parts are the same however an answer comes. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AnswerParser, type AnswerParserOptions, type AnswerPart } from '../../src/tools/answer-parser.js';
import { callFormatOf } from '../../src/tools/call-format.js';

const templates = {
  hermes: '{{ tools }} <tool_call>',
  llama3: '{{ tools }} "parameters": ',
  mistral: '{{ tools }} [TOOL_CALLS]',
};

type Settings = Pick<AnswerParserOptions, 'thinking'> & {
  readonly format?: keyof typeof templates;
  readonly parallel?: boolean;
};

/** Parts of the pieces of an answer, those of a kind that follow each other joined. */
function parse(pieces: readonly string[], { thinking, format, parallel = true }: Settings): AnswerPart[] {
  let numCalls = 0;
  const newId = () => `call-${numCalls++}`;
  const calls =
    format === undefined
      ? null
      : { format: callFormatOf(templates[format]).format, names: new Set(['look', 'sail']), parallel, newId };
  const parser = new AnswerParser({ calls, thinking });
  const joined: AnswerPart[] = [];
  for (const part of [...pieces.flatMap((piece) => parser.push(piece)), ...parser.end()]) {
    const last = joined.at(-1);
    if (part.type === 'toolCall' || last === undefined || last.type !== part.type) joined.push(part);
    else joined[joined.length - 1] = { ...part, text: `${(last as { text: string }).text}${part.text}` };
  }
  expect(parser.numCalls).toBe(numCalls);
  return joined;
}

const text = (value: string): AnswerPart => ({ type: 'text', text: value });
const thought = (value: string): AnswerPart => ({ type: 'thinking', text: value });
const call = (n: number, args: object, name = 'look'): AnswerPart => ({
  type: 'toolCall',
  call: { id: `call-${n}`, name, arguments: JSON.stringify(args) },
});

const hermes = { thinking: 'none', format: 'hermes' } as const;
const look = '<tool_call>\n{"name": "look", "arguments": {"at": "sea"}}\n</tool_call>';
const sail = '<tool_call>{"name":"sail","arguments":{}}</tool_call>';
const bad = '<tool_call>\n{"name": "look", "arguments": {"at"}}\n</tool_call>';

const cases: readonly [name: string, answer: string, settings: Settings, parts: readonly AnswerPart[]][] = [
  ['text', ' Hello <b>you</b>.\n', { thinking: 'none' }, [text(' Hello <b>you</b>.\n')]],
  ['text with tools', ' Hello <tool you>. <\n', hermes, [text(' Hello <tool you>. <\n')]],
  ['a call', look, hermes, [call(0, { at: 'sea' })]],
  [
    'text, then two calls',
    `Wait.\n\n${look}\n${sail}\n`,
    hermes,
    [text('Wait.'), call(0, { at: 'sea' }), call(1, {}, 'sail')],
  ],
  ['a call, then text', `${sail}\n Done.`, hermes, [call(0, {}, 'sail'), text('Done.')]],
  ['one call where one is allowed', `${sail}${look} more`, { ...hermes, parallel: false }, [call(0, {}, 'sail')]],
  ['a call that is not closed', '<tool_call>{"name": "sail"}', hermes, [call(0, {}, 'sail')]],
  ['a call that is cut off', 'So: <tool_call>{"name": "sa', hermes, [text('So: <tool_call>{"name": "sa')]],
  ['a call that is no JSON', `See: ${bad} and`, hermes, [text(`See: ${bad} and`)]],
  ['a bad call, then a good one', `${bad}\n${sail}`, hermes, [text(bad), call(0, {}, 'sail')]],
  [
    'a tool that is not there',
    '<tool_call>{"name": "fly"}</tool_call>',
    hermes,
    [text('<tool_call>{"name": "fly"}</tool_call>')],
  ],
  [
    'a tag inside an argument',
    '<tool_call>{"name": "look", "arguments": {"at": "</tool_call> <tool_call>"}}</tool_call>!',
    hermes,
    [call(0, { at: '</tool_call> <tool_call>' }), text('!')],
  ],
  [
    'arguments as a text',
    '<tool_call>{"name":"look","arguments":"{\\"at\\":1}"}</tool_call>',
    hermes,
    [call(0, { at: 1 })],
  ],
  [
    'a bare call',
    '\n{"name": "look", "parameters": {"at": 2}}',
    { thinking: 'none', format: 'llama3' },
    [call(0, { at: 2 })],
  ],
  [
    'bare calls',
    '{"name": "look", "parameters": {"at": 2}}; {"name": "sail", "parameters": {}}',
    { thinking: 'none', format: 'llama3' },
    [call(0, { at: 2 }), call(1, {}, 'sail')],
  ],
  [
    'an opened call',
    'I see <|python_tag|>{"name": "sail", "parameters": {}}',
    { thinking: 'none', format: 'llama3' },
    [text('I see'), call(0, {}, 'sail')],
  ],
  ['JSON that is no call', '{"at": "sea"}', { thinking: 'none', format: 'llama3' }, [text('{"at": "sea"}')]],
  [
    'a list of calls',
    '[TOOL_CALLS] [{"name": "look", "arguments": {"at": 3}}, {"name": "sail", "arguments": {}}]',
    { thinking: 'none', format: 'mistral' },
    [call(0, { at: 3 }), call(1, {}, 'sail')],
  ],
  ['no list', '[TOOL_CALLS] look', { thinking: 'none', format: 'mistral' }, [text('[TOOL_CALLS] look')]],
  [
    'thoughts',
    '<think>\nHm. <b>\n\n</think>\n\nYes. </think>',
    { thinking: 'possible' },
    [thought('Hm. <b>'), text('Yes. </think>')],
  ],
  ['no thoughts', 'I <think> so.', { thinking: 'possible' }, [text('I <think> so.')]],
  ['thoughts begun by the prompt', 'Hm.\n</think>Yes.', { thinking: 'begun' }, [thought('Hm.'), text('Yes.')]],
  ['thoughts without an end', '<think>Hm. </thin', { thinking: 'possible' }, [thought('Hm. </thin')]],
  ['empty thoughts', '<think>\n\n</think>\n\nYes.', { thinking: 'possible' }, [text('Yes.')]],
  [
    'thoughts, then a call',
    `<think>a</think>\n${look}`,
    { ...hermes, thinking: 'possible' },
    [thought('a'), call(0, { at: 'sea' })],
  ],
  [
    'a call inside thoughts',
    `<think>${look}</think>ok`,
    { ...hermes, thinking: 'possible' },
    [thought(look), text('ok')],
  ],
  ['nothing', '', { ...hermes, thinking: 'possible' }, []],
];

describe.each(cases)('%s', (_name, answer, settings, parts) => {
  test('whole', () => expect(parse([answer], settings)).toEqual(parts));

  test('cut at every place, and into letters', () => {
    for (let at = 0; at <= answer.length; at++) {
      expect(parse([answer.slice(0, at), answer.slice(at)], settings)).toEqual(parts);
    }
    expect(parse([...answer], settings)).toEqual(parts);
  });
});

test('whatever a model writes, the parts do not depend on the pieces, and no text is invented', () => {
  const shreds = [
    '<think>',
    '</think>',
    look,
    sail,
    bad,
    '<tool_call>',
    '</tool_call>',
    '[TOOL_CALLS] ',
    '[{"name":"sail"}]',
    '{',
    '}',
    ' ',
    '\n',
    'a',
    '<',
    '"',
  ];
  const anySettings = fc.record({
    thinking: fc.constantFrom('none', 'possible', 'begun'),
    format: fc.constantFrom('hermes', 'llama3', 'mistral'),
    parallel: fc.boolean(),
  }) as fc.Arbitrary<Settings>;
  const anyAnswer = fc.array(fc.constantFrom(...shreds), { maxLength: 12 }).map((all) => all.join(''));
  fc.assert(
    fc.property(anyAnswer, anySettings, fc.array(fc.nat(40), { maxLength: 30 }), (answer, settings, lengths) => {
      const pieces: string[] = [];
      let from = 0;
      for (const length of lengths) {
        pieces.push(answer.slice(from, from + length));
        from += length;
      }
      pieces.push(answer.slice(from));
      const whole = parse([answer], settings);
      expect(parse(pieces, settings)).toEqual(whole);
      for (const part of whole) if (part.type !== 'toolCall') expect(answer).toContain(part.text.trim().slice(0, 5));
    }),
    { numRuns: 5_000, seed: 17 },
  );
});
