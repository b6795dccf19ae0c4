/**
 * The check of an options object: every name in it is known, every value has its type. A mistyped name would
 * silently have no effect, so it is refused, and the error names the nearest option. A table of checks must name every option of its interface,
 * or it does not compile.
 */
import { CtkvrError } from './errors.js';
import { nearestName } from './nearest-name.js';
import { isObject, type OptionCheck, typeNameOf } from './option-kinds.js';

/** A check for every option of an interface. */
export type OptionChecks<Options> = { readonly [Name in keyof Required<Options>]: OptionCheck };

/** Options inside an option, by its name: an unknown name is looked up here too, so that the error can say where it belongs. */
export type NestedNames = Readonly<Record<string, readonly string[]>>;

/**
 * Passes when `options` is an object with known names only, and every value is what its check takes. Allocates nothing when it passes.
 * @param op the function that was called.
 * @param nested names inside options that are objects, for callers that write them one level too high.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION with fields op, option, and nearest or expected and actual.
 */
export function checkOptions<Options extends object>(
  op: string,
  options: Options,
  checks: OptionChecks<Options>,
  nested: NestedNames = {},
): void {
  checkIsObject(op, options);
  for (const name in options) {
    if (!Object.hasOwn(checks, name)) throw unknownOption(op, name, Object.keys(checks), nested);
  }
  for (const name in checks) checkOption(op, name, options[name as keyof Options], checks[name]);
}

/** Passes when every name in `options` is one of `known`: for objects whose values are checked elsewhere. @throws {CtkvrError} CTKVR_INVALID_OPTION. */
export function checkKnownKeys(op: string, options: object, known: readonly string[], nested: NestedNames = {}): void {
  checkIsObject(op, options);
  for (const name in options) if (!known.includes(name)) throw unknownOption(op, name, known, nested);
}

/** Passes when one value, an option or an argument, is what its check takes. @throws {CtkvrError} CTKVR_INVALID_OPTION. */
export function checkOption(op: string, name: string, value: unknown, check: OptionCheck): void {
  if (value === undefined ? check.isOptional : check.accepts(value)) return;
  const remedy = check.remedy?.(value);
  const { expected } = check;
  throw new CtkvrError(
    'CTKVR_INVALID_OPTION',
    `${op}: ${name} must be ${expected}, got ${shown(value)}${remedy === undefined ? '' : `; ${remedy}`}`,
    { fields: { op, option: name, expected, actual: shown(value) } },
  );
}

function checkIsObject(op: string, options: unknown): void {
  if (isObject(options)) return;
  throw new CtkvrError('CTKVR_INVALID_OPTION', `${op}: options must be an object, got ${shown(options)}`, {
    fields: { op, option: 'options', expected: 'an object', actual: shown(options) },
  });
}

function unknownOption(op: string, name: string, known: readonly string[], nested: NestedNames): CtkvrError {
  const near = nearestName(name, known);
  const inside = near === null ? nearestInside(name, nested) : null;
  const nearest = near ?? inside;
  const advice =
    near !== null
      ? `did you mean ${near}?`
      : inside !== null
        ? `did you mean ${inside.replace('.', ': { ')} }?`
        : `the options are ${known.join(', ')}`;
  return new CtkvrError('CTKVR_INVALID_OPTION', `${op}: there is no option ${name}; ${advice}`, {
    fields: { op, option: name, nearest },
  });
}

/** `sampling.temperature` for `temperature`, where `sampling` has it. */
function nearestInside(name: string, nested: NestedNames): string | null {
  for (const [outer, names] of Object.entries(nested)) {
    const near = nearestName(name, names);
    if (near !== null) return `${outer}.${near}`;
  }
  return null;
}

/** A value as a message shows it: never long. */
function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value !== 'object' || value === null) return String(value);
  return Array.isArray(value) ? 'a list' : `an object (${typeNameOf(value)})`;
}
