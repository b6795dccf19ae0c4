/**
 * A child process that is started again when it dies. It knows nothing of models: `begin` makes a process that was started ready, and what
 * that returns is what its users get, anew after each restart.
 */
import type { ChildProcess } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { CallMessage, ReplyMessage } from '../remote/messages.js';
import { ProcessChannel } from '../remote/process-channel.js';
import { RemoteCaller } from '../remote/remote-caller.js';
import { untilAborted } from '../until-aborted.js';
import { HEARTBEAT_SERVICE, watchHeartbeat } from './heartbeat.js';
import { gaveUp, processLost, stopped } from './process-errors.js';
import { type RestartLimits, RestartPolicy } from './restart-policy.js';

/** Milliseconds that an orderly end may take. */
const END_MS = 5000;

export type ProcessState = 'loading' | 'ready' | 'restarting' | 'failed' | 'stopped';

export interface SupervisedOptions<Ready> {
  /** For messages: the model that it runs. */
  readonly name: string;
  /** A process with a channel of `serialization: 'advanced'`. */
  readonly spawn: () => ChildProcess;
  readonly begin: (caller: RemoteCaller) => Promise<Ready>;
  /** Lets a ready process end in order. */
  readonly end: (ready: Ready) => Promise<void>;
  readonly limits: RestartLimits;
  /** Milliseconds without a sign of life after which it is killed and started again; 0 = never. */
  readonly silenceMs: number;
  readonly logger: Logger;
}

export class SupervisedProcess<Ready> {
  readonly #options: SupervisedOptions<Ready>;
  readonly #policy: RestartPolicy;
  readonly #stop = new AbortController();
  #state: ProcessState = 'loading';
  #ready: Promise<Ready>;
  #child: ChildProcess | null = null;
  /** Settles when nothing of the last process is left. */
  #gone: Promise<unknown> = Promise.resolve();
  /** Ends the process from this side, for a reason. */
  #lose: (why: string) => void = () => {};

  /** Starts the process. `ready` says how it went: a first start that fails is not tried again. */
  constructor(options: SupervisedOptions<Ready>) {
    this.#options = options;
    this.#policy = new RestartPolicy(options.limits);
    this.#ready = this.#launch();
    this.#ready.catch(() => {
      this.#state = 'stopped';
    });
  }

  get state(): ProcessState {
    return this.#state;
  }

  /**
   * What `begin` returned, as soon as there is a process that is ready.
   * @throws what the first `begin` threw; CTKVR_ENGINE_FAILED when restarts were given up; CTKVR_CLOSED; the signal's reason.
   */
  async ready(signal?: AbortSignal): Promise<Ready> {
    return await (signal === undefined ? this.#ready : untilAborted(this.#ready, signal));
  }

  /** Ends the process at once and starts another. @param why for log and errors. */
  restart(why: string): void {
    if (this.#state === 'ready') this.#lose(why);
  }

  /** Ends the process for good: in order, if that is soon. Idempotent. */
  async stop(): Promise<void> {
    const wasReady = this.#state === 'ready';
    const child = this.#child;
    this.#state = 'stopped';
    this.#stop.abort(stopped(this.#options.name));
    if (wasReady) {
      const ended = this.#ready.then((ready) => this.#options.end(ready)).catch(() => {}); // it ends either way
      const overdue = new AbortController();
      await Promise.race([ended, delay(END_MS, undefined, { signal: overdue.signal }).catch(() => {})]);
      overdue.abort();
    }
    child?.kill('SIGKILL');
    await this.#gone; // its memory comes free only then
    await this.#ready.catch(() => {}); // a start under way fails now
  }

  /** @throws what `begin` throws; CTKVR_ENGINE_LOST when the process dies meanwhile. */
  async #launch(): Promise<Ready> {
    const { name, spawn, begin, silenceMs, logger } = this.#options;
    const child = spawn();
    this.#child = child;
    const caller = new RemoteCaller(new ProcessChannel<CallMessage, ReplyMessage>(child));
    const gone = whenGone(child);
    this.#gone = gone;
    const lost = new Promise<string>((resolve) => {
      void gone.then(resolve);
      this.#lose = (why) => {
        child.kill('SIGKILL');
        resolve(why); // nothing is asked of it while it dies
      };
    });
    const lose = this.#lose;
    const endWatch = watchHeartbeat({
      ask: () => caller.call({ service: HEARTBEAT_SERVICE, method: 'beat' }, []),
      silenceMs,
      onSilence: () => lose(`it hung: no answer for ${silenceMs / 1000} s`),
    });
    void lost.then((why) => {
      endWatch();
      caller.end(processLost(name, why));
    });
    try {
      const ready = await begin(caller);
      this.#stop.signal.throwIfAborted();
      const readyAt = performance.now();
      this.#state = 'ready';
      logger.info({ model: name, enginePid: child.pid }, 'engine ready');
      void lost.then((why) => this.#lost(why, performance.now() - readyAt));
      return ready;
    } catch (error) {
      child.kill('SIGKILL');
      await gone;
      throw error;
    }
  }

  #lost(why: string, readyMs: number): void {
    if (this.#state === 'stopped') return;
    this.#state = 'restarting';
    this.#ready = this.#launchAgain(why, readyMs);
    this.#ready.catch(() => {}); // told to those who ask
  }

  async #launchAgain(lostFor: string, wasReadyMs: number): Promise<Ready> {
    const { name, logger } = this.#options;
    let why = lostFor;
    let readyMs = wasReadyMs;
    await this.#gone;
    for (;;) {
      const delayMs = this.#policy.died(readyMs);
      logger.error({ model: name, why, restartInMs: delayMs }, 'engine lost');
      if (delayMs === null) {
        this.#state = 'failed';
        throw gaveUp(name, this.#policy.quickDeaths, why);
      }
      await untilAborted(delay(delayMs, undefined, { ref: false }), this.#stop.signal);
      try {
        return await this.#launch();
      } catch (error) {
        this.#stop.signal.throwIfAborted();
        why = error instanceof Error ? error.message : String(error);
        readyMs = 0;
      }
    }
  }
}

/** Resolves when the process is gone, or could not be started, with how that was. */
function whenGone(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.on('error', (error) => {
      if (child.pid === undefined) resolve(`it could not be started: ${error.message}`);
    });
    child.once('exit', (code, signal) => {
      const killed = signal === 'SIGKILL' ? 'SIGKILL, which is also how a system without memory ends one' : signal;
      resolve(killed ?? `exit status ${code}`);
    });
  });
}
