/**
 * Finds out that a process hangs: it is asked again and again, and answers at once as long as its JavaScript runs. Native work does not hold
 * that up, however long it takes.
 */

/** The name under which a process serves `heartbeat`. */
export const HEARTBEAT_SERVICE = 'heartbeat';

export const heartbeat = { beat: async () => {} };

/** Milliseconds: far longer than anything holds up the JavaScript of a process, on a machine that swaps too. */
export const defaultSilenceMs = 60_000;

/** Milliseconds until the first answer: what a disk that sleeps and a machine that swaps may need to load the program, not its model. */
const START_MS = 300_000;

/** How often it is looked, in the time that a process may be silent. */
const LOOKS = 4;

export interface HeartbeatWatch {
  /** Resolves when the process answers. */
  readonly ask: () => Promise<unknown>;
  /** How long it may be silent once it has answered; until then five times that, and five minutes at least. 0 = for ever. */
  readonly silenceMs: number;
  /** Called once, at most a quarter of the time late. */
  readonly onSilence: () => void;
}

/** Returns what ends the watch. */
export function watchHeartbeat({ ask, silenceMs, onSilence }: HeartbeatWatch): () => void {
  if (silenceMs === 0) return () => {};
  let isAsked = false;
  let looksAllowed = Math.ceil((Math.max(START_MS, 5 * silenceMs) / silenceMs) * LOOKS);
  /** Counted, not timed: when this process itself was held up or asleep, answers may wait to be read. */
  let looksInVain = 0;
  const over = () => clearInterval(timer);
  const look = () => {
    if (isAsked) {
      looksInVain += 1;
      if (looksInVain < looksAllowed) return;
      over();
      onSilence();
      return;
    }
    isAsked = true;
    looksInVain = 0;
    ask().then(() => {
      isAsked = false;
      looksAllowed = LOOKS;
    }, over); // it is gone
  };
  const timer = setInterval(look, silenceMs / LOOKS).unref();
  look();
  return over;
}
