import { expect, it } from 'vitest';
import { boundedSchema } from './bounded-schema.js';

it('bounds formatted strings wherever a schema has them, and nothing else', () => {
  const time = { type: 'string', format: 'time' };
  const bounded = { ...time, maxLength: 24 };
  expect(
    boundedSchema({
      type: 'object',
      properties: { at: time, enum: time, format: { type: 'string' }, id: { type: 'string', format: 'uuid' } },
      $defs: { const: { anyOf: [{ type: 'number' }, { items: time }] } },
      additionalProperties: time,
      required: ['at'],
    }),
  ).toEqual({
    type: 'object',
    properties: { at: bounded, enum: bounded, format: { type: 'string' }, id: { type: 'string', format: 'uuid' } },
    $defs: { const: { anyOf: [{ type: 'number' }, { items: bounded }] } },
    additionalProperties: bounded,
    required: ['at'],
  });
});

it('keeps what the schema says itself, and values that look like schemas', () => {
  for (const schema of [
    { type: 'string', format: 'time', maxLength: 9 },
    { type: 'string', format: 'duration', minLength: 41 },
    { type: 'string', format: 'toString' },
    { enum: [{ format: 'time' }], default: { format: 'time' } },
    { const: { format: 'email' } },
  ]) {
    expect(boundedSchema(schema)).toEqual(schema);
  }
});
