/**
 * Finds out that a process hangs: it is asked again and again, and answers at once as long as its JavaScript runs. Native work does not hold
 * that up, however long it takes.
 */

/** The name under which a process serves `heartbeat`. */
export const HEARTBEAT_SERVICE = 'heartbeat';

export const heartbeat = { beat: async () => {} };

/** Milliseconds: far longer than anything holds up the JavaScript of a process, on a machine that swaps too. */
export const defaultSilenceMs = 60_000;

/** How often it is looked, in the time that a process may be silent. */
const LOOKS = 4;

export interface HeartbeatWatch {
  /** Resolves when the process answers. */
  readonly ask: () => Promise<unknown>;
  /** How long it may be silent once it has answered for the first time; 0 = for ever. */
  readonly silenceMs: number;
  /** Called once, at most a quarter of the time late. */
  readonly onSilence: () => void;
}

/** Returns what ends the watch. */
export function watchHeartbeat({ ask, silenceMs, onSilence }: HeartbeatWatch): () => void {
  if (silenceMs === 0) return () => {};
  let timer: NodeJS.Timeout | undefined;
  let isOver = false;
  let isAsked = false;
  /** Counted, not timed: when this process itself was held up or asleep, answers may wait to be read. */
  let looksInVain = 0;
  const over = () => {
    isOver = true;
    clearInterval(timer);
  };
  const look = () => {
    if (isAsked) {
      looksInVain += 1;
      if (looksInVain < LOOKS) return;
      over();
      onSilence();
      return;
    }
    isAsked = true;
    looksInVain = 0;
    ask().then(() => {
      isAsked = false;
    }, over); // it is gone
  };
  // The first answer comes when the program of the process is loaded.
  ask().then(() => {
    if (!isOver) timer = setInterval(look, silenceMs / LOOKS).unref();
  }, over);
  return over;
}
