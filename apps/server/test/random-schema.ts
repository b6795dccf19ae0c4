/** Random JSON schemas, every value of which is short enough for an answer: nested objects and lists, enums, numbers, texts, alternatives. */
import fc from 'fast-check';

export type Schema = Record<string, unknown>;

const names = ['name', 'age', 'kind', 'items', 'size', 'note', 'parent', 'flag'];

const leaf: fc.Arbitrary<Schema> = fc.oneof(
  fc.constant({ type: 'boolean' }),
  fc.constant({ type: 'null' }),
  fc.record({ min: fc.integer({ min: -50, max: 50 }), span: fc.nat(1000) }).map(({ min, span }) => ({
    type: 'integer',
    minimum: min,
    maximum: min + span,
  })),
  fc
    .record({ min: fc.integer({ min: -50, max: 50 }), span: fc.integer({ min: 1, max: 100 }) })
    .map(({ min, span }) => ({
      type: 'number',
      minimum: min,
      maximum: min + span,
      multipleOf: 0.25,
    })),
  fc.record({ least: fc.nat(4), span: fc.nat(12) }).map(({ least, span }) => ({
    type: 'string',
    minLength: least,
    maxLength: least + span,
  })),
  fc
    .uniqueArray(fc.constantFrom('red', 'green', 'blue', 7, -1.5, null, true, 'ein "Wort"', 'ä\n'), {
      minLength: 1,
      maxLength: 5,
    })
    .map((values) => ({ enum: values })),
  fc.constantFrom('one', 2, false).map((value) => ({ const: value })),
  fc.constantFrom('^[a-c]{2,5}$', '^\\d{3}-\\d{2}$').map((pattern) => ({ type: 'string', pattern })),
  fc.constantFrom('date', 'uuid', 'ipv4', 'time').map((format) => ({ type: 'string', format })),
);

const { tree } = fc.letrec<{ tree: Schema; object: Schema; list: Schema; either: Schema }>((tie) => ({
  tree: fc.oneof({ maxDepth: 3, depthSize: 'small' }, leaf, tie('object'), tie('list'), tie('either')),
  object: fc
    .record({
      fields: fc.uniqueArray(fc.tuple(fc.constantFrom(...names), tie('tree'), fc.boolean()), {
        selector: ([name]) => name,
        minLength: 1,
        maxLength: 4,
      }),
    })
    .map(({ fields }) => ({
      type: 'object',
      properties: Object.fromEntries(fields.map(([name, schema]) => [name, schema])),
      required: fields.filter(([, , isNeeded]) => isNeeded).map(([name]) => name),
      additionalProperties: false,
    })),
  list: fc
    .record({ items: tie('tree'), least: fc.nat(2), span: fc.nat(2) })
    .map(({ items, least, span }) => ({ type: 'array', items, minItems: least, maxItems: least + span })),
  either: fc
    .uniqueArray(leaf, { minLength: 2, maxLength: 3, selector: (one) => JSON.stringify(one) })
    .map((anyOf) => ({ anyOf })),
}));

/** Objects, as OpenAI's clients want them at the root. @param seed the same one gives the same schemas. */
export function randomSchemas(count: number, seed: number): Schema[] {
  return fc.sample(
    fc.tuple(tree, tree).map(([first, second]) => ({
      type: 'object',
      properties: { first, second },
      required: ['first', 'second'],
      additionalProperties: false,
    })),
    { numRuns: count, seed },
  );
}
