import { setTimeout as delay } from 'node:timers/promises';

/** Resolves when `holds` does; fails, with what `state` says, when it does not for five seconds. */
export async function until(holds: () => boolean, state: () => unknown = () => ''): Promise<void> {
  for (let waited = 0; !holds(); waited += 1) {
    if (waited > 5000) throw new Error(`it did not happen within five seconds ${JSON.stringify(state())}`);
    await delay(1);
  }
}
