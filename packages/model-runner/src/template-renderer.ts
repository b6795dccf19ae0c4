/**
 * Renders Jinja templates in a child process, within bounds of time, memory and output. Not in a worker thread: V8 ends the whole program
 * when one allocation of a thread is too large for its limit, which `{% for i in range(1000000000) %}` makes
 * (docs/decisions/2026-12-01-templates-in-a-process.md).
 */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { CtkvrError } from '@ctkvr/core';
import { abortedError, closedError } from './operation-errors.js';

/** What a template is rendered with, once for each text wanted. */
export type TemplateView = Readonly<Record<string, unknown>>;

export interface RenderLimits {
  /** Milliseconds for all views of a request. */
  readonly timeMs: number;
  /** UTF-16 units of all texts of a request. */
  readonly outputLength: number;
}

export interface RenderRequest {
  readonly source: string;
  readonly views: readonly TemplateView[];
  readonly limits: RenderLimits;
}

export type RenderAnswer =
  | { readonly texts: string[] }
  | { readonly failure: 'cannot be parsed' | 'refused the messages'; readonly reason: string }
  | { readonly limit: 'time' | 'output' };

/** Usual templates take less than a millisecond, and some ten for a document of a million characters. */
const TIME_LIMIT_MS = 5000;
/** Beyond its own limit the process has this long to say so. */
const ANSWER_GRACE_MS = 2000;
const MEMORY_LIMIT_MB = 512;

const processEntry = fileURLToPath(new URL('./template-process.js', import.meta.url));

export class TemplateRenderer {
  #child: ChildProcess | null = null;
  /** Settles when the request before has ended: the process works on one at a time, so that its time is its own. */
  #turn: Promise<void> = Promise.resolve();
  #closed = false;

  /** Starts the process, so that the first rendering need not wait for it. It holds up nobody's exit. */
  start(): void {
    this.#running();
  }

  /**
   * Returns the text of each view.
   * @throws {CtkvrError} CTKVR_INVALID_OPTION when the template fails or goes beyond a limit, CTKVR_ABORTED, CTKVR_CLOSED.
   */
  async render(
    request: { readonly source: string; readonly views: readonly TemplateView[]; readonly outputLength: number },
    signal?: AbortSignal,
  ): Promise<string[]> {
    const { source, views, outputLength } = request;
    const before = this.#turn;
    let end!: () => void;
    this.#turn = new Promise((resolve) => {
      end = resolve;
    });
    try {
      await before;
      const limits = { timeMs: TIME_LIMIT_MS, outputLength };
      return textsOf(await this.#ask({ source, views, limits }, signal), limits);
    } finally {
      end();
    }
  }

  /** Ends the process and what it renders. Idempotent. */
  close(): void {
    this.#closed = true;
    this.#child?.kill('SIGKILL');
  }

  #ask(request: RenderRequest, signal: AbortSignal | undefined): Promise<RenderAnswer> {
    return new Promise((resolve, reject) => {
      if (this.#closed) throw closedError('model');
      if (signal?.aborted) throw abortedError('rendering the chat template', signal.reason);
      const child = this.#running();
      // A process that is to be stopped is gone: the next request starts another.
      const stop = (error: CtkvrError) => {
        child.kill('SIGKILL');
        this.#child = null;
        settle(() => reject(error));
      };
      const overdue = setTimeout(() => stop(limitError('time', request.limits)), TIME_LIMIT_MS + ANSWER_GRACE_MS);
      const onAbort = () => stop(abortedError('rendering the chat template', signal?.reason));
      const onMessage = (answer: RenderAnswer) => settle(() => resolve(answer));
      const onEnd = () =>
        settle(() => reject(this.#closed ? closedError('model') : limitError('memory', request.limits)));
      const onError = (cause: Error) => settle(() => reject(cannotStart(cause)));
      const settle = (how: () => void) => {
        clearTimeout(overdue);
        signal?.removeEventListener('abort', onAbort);
        child.off('message', onMessage).off('exit', onEnd).off('error', onError);
        child.channel?.unref();
        how();
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      child.on('message', onMessage).on('exit', onEnd).on('error', onError);
      child.channel?.ref();
      try {
        child.send(request);
      } catch (cause) {
        settle(() => reject(notCloneable(cause)));
      }
    });
  }

  #running(): ChildProcess {
    if (this.#child?.connected) return this.#child;
    const { PATH, LD_LIBRARY_PATH, DYLD_LIBRARY_PATH } = process.env;
    const child = fork(processEntry, [], {
      execArgv: [`--max-old-space-size=${MEMORY_LIMIT_MB}`],
      // A template must not see the program's environment.
      env: { PATH, LD_LIBRARY_PATH, DYLD_LIBRARY_PATH },
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    child.on('error', () => {}); // reported to the next request
    child.on('exit', () => {
      if (this.#child === child) this.#child = null;
    });
    child.unref();
    child.channel?.unref();
    this.#child = child;
    return child;
  }
}

function textsOf(answer: RenderAnswer, limits: RenderLimits): string[] {
  if ('texts' in answer) return answer.texts;
  throw 'limit' in answer ? limitError(answer.limit, limits) : templateError(answer.failure, answer.reason);
}

function limitError(limit: 'time' | 'output' | 'memory', { timeMs, outputLength }: RenderLimits): CtkvrError {
  const bound = {
    time: `it took more than ${timeMs / 1000} s`,
    output: `it wrote more than ${outputLength} characters`,
    memory: `it ended its process, which may use ${MEMORY_LIMIT_MB} MiB of memory`,
  };
  return templateError('was stopped', bound[limit], limit);
}

function templateError(what: string, reason: string, limit?: string): CtkvrError {
  return new CtkvrError('CTKVR_INVALID_OPTION', `the model's chat template ${what}: ${reason}`, {
    fields: { option: 'chatTemplate', reason, ...(limit === undefined ? {} : { limit }) },
    remedy: "pass plain text or tokens, or another template in loadModel's chatTemplate",
  });
}

function notCloneable(cause: unknown): CtkvrError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new CtkvrError(
    'CTKVR_INVALID_OPTION',
    `messages must hold plain data, as JSON has it, for the chat template: ${reason}`,
    { fields: { option: 'messages', reason }, cause },
  );
}

function cannotStart(cause: Error): CtkvrError {
  return new CtkvrError(
    'CTKVR_INTERNAL',
    `the process that renders chat templates could not be started: ${cause.message}`,
    { cause },
  );
}
