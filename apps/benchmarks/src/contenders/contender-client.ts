/** A contender in a child process, as an object of the same interface. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { type ErrorData, fromErrorData } from '@ctkvr/core';
import type {
  BesideSample,
  ContenderKind,
  ContenderSettings,
  DecodeSample,
  OpenOptions,
  OpenSample,
  PrefillSample,
  QualitySample,
  ReferenceContender,
  TogetherSample,
} from './contender.js';
import type { ContenderAnswer, ContenderCall, ContenderMethod } from './contender-messages.js';
import { installPeer } from './install-peer.js';

/** Built beside this module; Node runs no TypeScript, so a suite needs the built package. */
const processEntry = fileURLToPath(new URL('./contender-process.js', import.meta.url));

export class ContenderClient implements ReferenceContender, AsyncDisposable {
  readonly kind: ContenderKind;
  readonly #child: ChildProcess;

  private constructor(kind: ContenderKind, child: ChildProcess) {
    this.kind = kind;
    this.#child = child;
  }

  /** Starts the process; the peer is installed first when it is not there yet. */
  static async start(kind: ContenderKind): Promise<ContenderClient> {
    const args = kind === 'ctkvr' ? [kind] : [kind, await installPeer()];
    // advanced: typed arrays cross as they are. stderr is the user's; stdout must stay the result's.
    const child = fork(processEntry, args, {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    return new ContenderClient(kind, child);
  }

  open = (options: OpenOptions) => this.#call<OpenSample>('open', options);
  configure = (settings: ContenderSettings) => this.#call<void>('configure', settings);
  tokenize = (text: string) => this.#call<Int32Array>('tokenize', text);
  prefill = (tokens: Int32Array, sequence?: number) => this.#call<PrefillSample>('prefill', tokens, sequence);
  decode = (numTokens: number) => this.#call<DecodeSample>('decode', numTokens);
  decodeTogether = (numTokens: number, numSequences: number) =>
    this.#call<TogetherSample>('decodeTogether', numTokens, numSequences);
  decodeBesidePrefill = (numTokens: number, prompt: Int32Array) =>
    this.#call<BesideSample>('decodeBesidePrefill', numTokens, prompt);
  quality = (tokens: Int32Array, sequence?: number) => this.#call<QualitySample>('quality', tokens, sequence);
  peakMemory = () => this.#call<number>('peakMemory');

  /** Ends the process; resolves when it is gone. Idempotent. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    if (this.#child.connected) this.#child.disconnect();
    await exited;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #call<T>(method: ContenderMethod, ...args: unknown[]): Promise<T> {
    const call: ContenderCall = { method, args };
    const answered = new Promise<ContenderAnswer>((resolve, reject) => {
      const onExit = (code: number | null, signal: string | null) =>
        reject(new Error(`${this.kind}'s process ended during ${method} (${signal ?? `exit code ${code}`})`));
      this.#child.once('exit', onExit);
      this.#child.once('message', (answer: ContenderAnswer) => {
        this.#child.off('exit', onExit);
        resolve(answer);
      });
    });
    this.#child.send(call);
    const answer = await answered;
    if ('error' in answer) throw errorOf(answer.error, `${this.kind} failed in ${method}`);
    return answer.value as T;
  }
}

/** An error that a user can fix as it was in the other process; any other with its stack. */
function errorOf(error: ErrorData, where: string): Error {
  return error.ctkvr === null ? new Error(`${where}: ${error.stack ?? error.message}`) : fromErrorData(error);
}
