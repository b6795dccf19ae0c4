/** What an answer can be bound to, and the text of it that the engine compiles: llguidance's form of Lark. */
import { CtkvrError } from '@ctkvr/core';
import type { NativeGrammar, NativeModel } from '@ctkvr/native';
import { boundedSchema, type JsonSchema } from './bounded-schema.js';

export type GrammarSource =
  /** Any JSON object. */
  | { readonly type: 'json-object' }
  /** Draft 2020-12, of which llguidance supports most; a keyword that it does not support is refused by name. */
  | { readonly type: 'json-schema'; readonly schema: JsonSchema }
  /** llguidance's form of Lark (https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md). */
  | { readonly type: 'lark'; readonly grammar: string };

/** A grammar that `Model.compileGrammar` has compiled, for any number of answers of that model. */
export class Grammar {
  /** @internal */
  readonly native: NativeGrammar;

  /** @internal */
  constructor(native: NativeGrammar) {
    this.native = native;
  }
}

/** As llama.cpp has it: without a bound, small models write nothing but spaces. */
const whitespace = { whitespace_flexible: true, whitespace_pattern: '[ ]|\\n{1,2}[ \\t]{0,20}' };

/** Returns JSON of a schema as a part of a Lark rule. */
export function jsonInLark(schema: JsonSchema): string {
  return `%json ${JSON.stringify({ ...boundedSchema(schema), 'x-guidance': whitespace })}`;
}

/** Returns what a generation is bound to. @throws {CtkvrError} CTKVR_INVALID_OPTION where it could not end. */
export function boundTo(options: {
  readonly grammar?: GrammarSource | Grammar | undefined;
  readonly ignoreEndOfTurn?: boolean | undefined;
}): GrammarSource | Grammar | null {
  if (options.grammar !== undefined && options.ignoreEndOfTurn) {
    throw new CtkvrError('CTKVR_INVALID_OPTION', 'ignoreEndOfTurn must be false beside a grammar, got true', {
      fields: { option: 'ignoreEndOfTurn', expected: 'false beside a grammar', actual: 'true' },
    });
  }
  return options.grammar ?? null;
}

/** @throws {CtkvrError} CTKVR_INVALID_OPTION naming what is not supported. */
export async function compileGrammar(model: NativeModel, source: GrammarSource): Promise<Grammar> {
  if (model.compileGrammar === undefined) {
    throw new CtkvrError(
      'CTKVR_NATIVE_UNAVAILABLE',
      'the native binary is older than grammars: build or install it anew',
    );
  }
  return new Grammar(await model.compileGrammar(toLark(source)));
}

function toLark(source: GrammarSource): string {
  if (source.type === 'json-object') return `start: ${jsonInLark({ type: 'object' })}`;
  if (source.type === 'lark' && typeof source.grammar === 'string') return source.grammar;
  if (source.type === 'json-schema' && typeof source.schema === 'object' && source.schema !== null) {
    return `start: ${jsonInLark(source.schema)}`;
  }
  const expected = "{ type: 'json-object' }, { type: 'json-schema', schema } or { type: 'lark', grammar }";
  throw new CtkvrError('CTKVR_INVALID_OPTION', `grammar must be ${expected}, got ${JSON.stringify(source)}`, {
    fields: { option: 'grammar', expected, actual: JSON.stringify(source) },
  });
}
