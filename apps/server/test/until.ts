import { setTimeout as delay } from 'node:timers/promises';

const MAX_TRIES = 20_000;

/** Looks every millisecond. Resolves when `holds` does; fails, with what `state` says, when it does not for some twenty seconds. */
export async function until(holds: () => boolean | Promise<boolean>, state: () => unknown = () => ''): Promise<void> {
  for (let tries = 0; !(await holds()); tries += 1) {
    if (tries > MAX_TRIES) throw new Error(`it did not happen ${JSON.stringify(state())}`);
    await delay(1);
  }
}
