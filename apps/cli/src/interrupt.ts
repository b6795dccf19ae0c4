/** Ctrl-C and SIGTERM as an AbortSignal: the first asks the work to stop, the second leaves at once. */
import { exitCodes } from './exit-codes.js';

/** The user asked to leave; the command has stopped. */
export class Interrupted extends Error {
  constructor() {
    super('interrupted');
  }
}

export interface Interrupt extends Disposable {
  readonly signal: AbortSignal;
  /** Which signal came, or null. */
  readonly received: 'SIGINT' | 'SIGTERM' | null;
}

/** Listens until disposed. `onForcedExit` runs before the process ends because of a second signal. */
export function listenForInterrupt(onForcedExit: () => void = () => {}): Interrupt {
  const controller = new AbortController();
  let received: Interrupt['received'] = null;
  const handle = (name: 'SIGINT' | 'SIGTERM') => {
    if (received !== null) {
      onForcedExit();
      process.exit(exitCodeOfSignal(name));
    }
    received = name;
    controller.abort();
  };
  const onInt = () => handle('SIGINT');
  const onTerm = () => handle('SIGTERM');
  process.on('SIGINT', onInt);
  process.on('SIGTERM', onTerm);
  return {
    signal: controller.signal,
    get received() {
      return received;
    },
    [Symbol.dispose]() {
      process.off('SIGINT', onInt);
      process.off('SIGTERM', onTerm);
    },
  };
}

export function exitCodeOfSignal(name: 'SIGINT' | 'SIGTERM'): number {
  return name === 'SIGTERM' ? exitCodes.terminated : exitCodes.interrupted;
}
