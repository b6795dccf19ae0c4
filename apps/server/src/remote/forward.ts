/** An object of the other process as an object of this one: each method calls the same one there. */
import type { RemoteCaller } from './remote-caller.js';

/** How each method of a service answers: with a promise, or as an async generator. */
export type MethodKinds<Service> = {
  readonly [Name in keyof Service]: Service[Name] extends (...args: never[]) => AsyncGenerator<unknown, void, undefined>
    ? 'stream'
    : Service[Name] extends (...args: never[]) => Promise<unknown>
      ? 'call'
      : never;
};

/** @param service the name under which the other process serves it. @param kinds every method that it has. */
export function forward<Service extends object>(
  caller: RemoteCaller,
  service: string,
  kinds: MethodKinds<Service>,
): Service {
  const methods = Object.entries(kinds).map(([method, kind]) => {
    const target = { service, method };
    return [
      method,
      (...args: unknown[]) => (kind === 'stream' ? caller.stream(target, args) : caller.call(target, args)),
    ];
  });
  return Object.fromEntries(methods) as Service;
}
