/**
 * Makes every function, method and getter of the loaded binary throw `CtkvrError`. Classes keep their identity (their prototypes are
 * changed once, in place), because the binary must recognise its own objects when they come back as arguments.
 */
import { mapNativeError } from './errors.js';

type AnyFunction = (this: unknown, ...args: unknown[]) => unknown;

/** What functions have that are no statics; a native binary's functions are of the old kind, with `arguments` and `caller`. */
const ownOfEveryFunction = new Set(['length', 'name', 'prototype', 'arguments', 'caller']);

const mapped = Symbol('ctkvr.mapped');

/** Returns an object like `exports` whose functions throw `CtkvrError`; its classes are the same ones, changed in place. */
export function mapThrownErrors(exports: Record<string, unknown>): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(exports)) {
    if (typeof value !== 'function') result[name] = value;
    else if (isClass(value)) result[name] = mapClass(value);
    else result[name] = wrap(value as AnyFunction);
  }
  return result;
}

/** A class of a native binary: it has methods, or static functions of its own. */
function isClass(value: object): value is { prototype: object } {
  const { prototype } = value as { prototype?: object };
  return prototype !== undefined && (Object.getOwnPropertyNames(prototype).length > 1 || statics(value).length > 0);
}

function mapClass(nativeClass: { prototype: object }): object {
  if (Object.hasOwn(nativeClass, mapped)) return nativeClass;
  mapMembers(nativeClass.prototype, Object.getOwnPropertyNames(nativeClass.prototype));
  mapMembers(nativeClass, statics(nativeClass));
  Object.defineProperty(nativeClass, mapped, { value: true });
  return nativeClass;
}

function statics(value: object): string[] {
  return Object.getOwnPropertyNames(value).filter((name) => !ownOfEveryFunction.has(name));
}

function mapMembers(target: object, names: string[]): void {
  for (const name of names) {
    const property = Object.getOwnPropertyDescriptor(target, name);
    if (name === 'constructor' || property === undefined || property.configurable === false) continue;
    if (typeof property.value === 'function') property.value = wrap(property.value);
    if (property.get !== undefined) property.get = wrap(property.get) as () => unknown;
    Object.defineProperty(target, name, property);
  }
}

function wrap(call: AnyFunction): AnyFunction {
  return function mappedCall(this: unknown, ...args: unknown[]) {
    let result: unknown;
    try {
      result = call.apply(this, args);
    } catch (error) {
      throw mapNativeError(error);
    }
    if (!(result instanceof Promise)) return result;
    return result.catch((error: unknown) => {
      throw mapNativeError(error);
    });
  };
}
