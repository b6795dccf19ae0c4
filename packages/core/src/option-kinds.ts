/** What an option can take: the entries of the tables that `checkOptions` checks by. Exported as `takes`. */

/** What one option takes. */
export interface OptionCheck {
  /** Ends "must be …". */
  readonly expected: string;
  readonly accepts: (value: unknown) => boolean;
  /** Whether it may be left out; undefined counts as left out. */
  readonly isOptional: boolean;
  /** How to correct the usual mistake. */
  readonly remedy?: (value: unknown) => string | undefined;
}

/** The same check of an option that may be left out. */
export function optional(check: OptionCheck): OptionCheck {
  return { ...check, isOptional: true };
}

/** The same check, null being a value too. */
export function nullable(check: OptionCheck): OptionCheck {
  const accepts = (value: unknown) => value === null || check.accepts(value);
  return { ...check, expected: `${check.expected} or null`, accepts };
}

export function integer(min: number, max: number): OptionCheck {
  const accepts = (value: unknown) => Number.isInteger(value) && (value as number) >= min && (value as number) <= max;
  return required(`an integer from ${min} to ${max}`, accepts);
}

export function number(min: number, max: number): OptionCheck {
  return required(`a number from ${min} to ${max}`, (value) => isNumber(value) && value >= min && value <= max);
}

export function numberAbove(min: number): OptionCheck {
  return required(`a number above ${min}`, (value) => isNumber(value) && value > min);
}

export function oneOf(values: readonly string[]): OptionCheck {
  return required(`one of ${values.join(', ')}`, (value) => typeof value === 'string' && values.includes(value));
}

export const boolean: OptionCheck = required('true or false', (value) => typeof value === 'boolean');
export const text: OptionCheck = required('a text', (value) => typeof value === 'string');
/** A callback. */
export const func: OptionCheck = required('a function', (value) => typeof value === 'function');
/** An object whose content its owner checks. */
export const object: OptionCheck = required('an object', isObject);
export const list: OptionCheck = required('a list', Array.isArray);
/** Checked where it is used. */
export const anything: OptionCheck = { expected: 'anything', accepts: () => true, isOptional: true };
/** Checked by its members, not its class: tests and other realms have their own. */
export const abortSignal: OptionCheck = required(
  'an AbortSignal',
  (value) => isObject(value) && typeof value.aborted === 'boolean' && typeof value.addEventListener === 'function',
);

export const float32 = typedArray('Float32Array');
export const float64 = typedArray('Float64Array');
export const uint32 = typedArray('Uint32Array');
export const int32 = typedArray('Int32Array');
export const bytes = typedArray('Uint8Array');

/** A Buffer is a Uint8Array. */
function typedArray(name: 'Float32Array' | 'Float64Array' | 'Uint32Array' | 'Int32Array' | 'Uint8Array'): OptionCheck {
  return {
    ...required(`a ${name}`, (value) => ArrayBuffer.isView(value) && typeNameOf(value) === name),
    remedy: (value) => (Array.isArray(value) || ArrayBuffer.isView(value) ? `convert it with ${name}.from` : undefined),
  };
}

function required(expected: string, accepts: (value: unknown) => boolean): OptionCheck {
  return { expected, accepts, isOptional: false };
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

/** Whether a value can hold options: no list, no buffer. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

/** The class's name, which an object keeps in other realms (frames, vm contexts, test runners). */
export function typeNameOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice('[object '.length, -1);
}
