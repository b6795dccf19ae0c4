import { describe, expect, test } from 'vitest';
import type { AskedEffort } from '../src/generation-request.js';
import { shortened } from '../src/shortened.js';
import { templateVariables } from '../src/template-variables.js';

const plain = '{{ messages }}';
const qwen = '{% if enable_thinking is defined and enable_thinking is false %}…';
const deepSeek = '{% if thinking %}…';
const gptOss = '{{ reasoning_effort }}';
const asking = (level: AskedEffort['level']) => ({ variables: {}, effort: { level, field: 'reasoning_effort' } });

describe('an effort', () => {
  test.each<[string, AskedEffort['level'], object]>([
    [qwen, 'none', { enable_thinking: false }],
    [qwen, 'low', { enable_thinking: true }],
    [deepSeek, 'none', { thinking: false }],
    [deepSeek, 'high', { thinking: true }],
    [gptOss, 'low', { reasoning_effort: 'low' }],
    [gptOss, 'none', {}],
    [qwen + gptOss, 'high', { enable_thinking: true, reasoning_effort: 'high' }],
    [plain, 'none', {}],
  ])('%s, %s', (template, level, variables) => {
    expect(templateVariables(template, asking(level))).toEqual(variables);
  });

  test('that the template cannot have is refused by the field’s name', () => {
    const effort = { level: 'low', field: 'reasoning.effort' } as const;
    expect(() => templateVariables(plain, { variables: {}, effort })).toThrow(
      expect.objectContaining({ status: 400, param: 'reasoning.effort', code: 'unsupported_parameter' }),
    );
  });

  test('goes behind a variable that is given', () => {
    const given = { ...asking('high'), variables: { enable_thinking: false } };
    expect(templateVariables(qwen, given)).toEqual({ enable_thinking: false });
  });
});

describe('a variable', () => {
  const given = (variables: Record<string, unknown>) => ({ variables, effort: null });

  test('reaches a template that mentions it', () => {
    expect(templateVariables(gptOss, given({ reasoning_effort: 'high' }))).toEqual({ reasoning_effort: 'high' });
  });

  test('that it does not mention is refused by name, whatever the name is', () => {
    for (const name of ['reasoning', 'reasoning_effort_', '(', '.*', '', 'x'.repeat(100_000)]) {
      expect(() => templateVariables(`${gptOss}((a+)+)$`, given({ [name]: true }))).toThrow(
        expect.objectContaining({ status: 400, param: `chat_template_kwargs.${shortened(name)}` }),
      );
    }
  });

  test('may switch off a thinking that is not there', () => {
    expect(templateVariables(plain, given({ enable_thinking: false }))).toEqual({ enable_thinking: false });
    expect(() => templateVariables(plain, given({ enable_thinking: true }))).toThrow(/no such variable/);
  });
});
