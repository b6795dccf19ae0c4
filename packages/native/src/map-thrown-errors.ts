/**
 * Makes every function, method and getter of the loaded binary throw `CtkvrError`. Prototypes are changed once, in place, because the binary
 * must recognise its own objects when they come back as arguments. Static functions of a native class cannot be changed: such a class is
 * replaced by an object that has them.
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

function mapClass(nativeClass: { prototype: object; [mapped]?: object }): object {
  const before = Object.hasOwn(nativeClass, mapped) ? nativeClass[mapped] : undefined;
  if (before !== undefined) return before;
  mapMembers(nativeClass.prototype, Object.getOwnPropertyNames(nativeClass.prototype));
  const result = mapStatics(nativeClass);
  Object.defineProperty(nativeClass, mapped, { value: result });
  return result;
}

/** Returns the class with its static functions changed, or where they cannot be, an object that has them. */
function mapStatics(nativeClass: { prototype: object }): object {
  const names = statics(nativeClass);
  const isFixed = (name: string) => Object.getOwnPropertyDescriptor(nativeClass, name)?.configurable === false;
  if (!names.some(isFixed)) {
    mapMembers(nativeClass, names);
    return nativeClass;
  }
  const { prototype, ...members } = Object.getOwnPropertyDescriptors(nativeClass as Record<string, unknown>);
  const calls = names.map((name) => [name, { value: wrap(members[name]!.value as AnyFunction) }]);
  return Object.create(null, { prototype: prototype!, ...Object.fromEntries(calls) }) as object;
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
