/**
 * A chat engine whose model runs in a process of its own: it forwards every call there. While the process is started again, or the model is
 * loaded, requests wait; those whose work was under way when it died fail with CTKVR_ENGINE_LOST.
 */
import { setMaxListeners } from 'node:events';
import { CtkvrError } from '@ctkvr/core';
import type { Logger } from 'pino';
import type { ChatEngine, EngineMemory, EngineState, EngineText, PreparedChat } from '../chat-engine.js';
import type { GenerationRequest } from '../generation-request.js';
import { forward } from '../remote/forward.js';
import type { DocumentSessions, KeptSessions, SessionInfo } from '../sessions/document-sessions.js';
import { openSessionsAtRest } from '../sessions/open-sessions.js';
import { untilAborted } from '../until-aborted.js';
import {
  ENGINE_SERVICE,
  type EngineFacts,
  type EngineLoad,
  type EngineService,
  engineServiceMethods,
} from './engine-service.js';
import { defaultSilenceMs } from './heartbeat.js';
import type { ModelPool, PoolMember } from './model-pool.js';
import { processLost } from './process-errors.js';
import { processSessions, SESSIONS_SERVICE, type SessionsService, sessionsServiceMethods } from './process-sessions.js';
import { defaultRestartLimits, type RestartLimits } from './restart-policy.js';
import { spawnEngine } from './spawn-engine.js';
import { SupervisedProcess } from './supervised-process.js';

export interface ProcessEngineOptions extends EngineLoad {
  readonly storedName: string;
  readonly pool: ModelPool;
  /** Bytes that the pool counts for it. */
  readonly neededBytes: number;
  readonly logger: Logger;
  /** Receives the share of the weights that is loaded, 0 to 1. */
  readonly onProgress?: ((fraction: number) => void) | undefined;
  readonly limits?: RestartLimits | undefined;
  /** As `SupervisedOptions` has it. */
  readonly silenceMs?: number | undefined;
}

/** What a process that is ready gives. */
interface LoadedEngine {
  readonly service: EngineService;
  readonly sessions: SessionsService;
  readonly facts: EngineFacts;
}

/** Of calls that nobody takes back. */
const never = new AbortController().signal;
setMaxListeners(0, never); // each of them listens: many are no leak

export class ProcessEngine implements ChatEngine, PoolMember {
  readonly modelId: string;
  readonly createdAt = Math.floor(Date.now() / 1000);
  readonly neededBytes: number;
  readonly text: EngineText;
  readonly sessions: DocumentSessions;
  readonly #options: ProcessEngineOptions;
  /** While there is no process that has sessions in memory. */
  readonly #atRest: KeptSessions;
  #process: SupervisedProcess<LoadedEngine> | null = null;
  #facts: EngineFacts | null = null;

  /** @throws {CtkvrError} CTKVR_INVALID_OPTION for a session store that cannot be. */
  constructor(options: ProcessEngineOptions) {
    this.modelId = options.modelId;
    this.neededBytes = options.neededBytes;
    this.#options = options;
    this.text = {
      facts: () => this.#use(never, async ({ facts }) => facts.text),
      tokenize: (text, how) => this.#use(never, ({ service }) => service.tokenize(text, how)),
      tokensOf: (prompt, signal, maxTokens) =>
        this.#use(signal, ({ service }) => service.tokensOf(prompt, signal, maxTokens)),
      bytesOf: (tokens) => this.#use(never, ({ service }) => service.bytesOf(tokens)),
      applyTemplate: (prompt, signal) => this.#use(signal, ({ service }) => service.applyTemplate(prompt, signal)),
    };
    this.#atRest = openSessionsAtRest(options.sessionStore, options.storedName);
    this.sessions = processSessions({
      loaded: (work, signal) => this.#use(signal, ({ sessions }) => work(sessions)),
      making: (owner, work) => this.#makeSession(owner, work),
      kept: (work) => this.#useKept(work),
      keptStream: (work) => this.#streamKept(work),
    });
  }

  get contextLength(): number | null {
    return this.#facts?.contextLength ?? null;
  }

  get state(): EngineState {
    const { state = 'stopped' } = this.#process ?? {};
    return state === 'stopped' ? 'unloaded' : state;
  }

  get failure(): string | null {
    return this.state === 'failed' ? 'engine_failed' : null;
  }

  async load(): Promise<void> {
    const { modelId: name, limits = defaultRestartLimits, silenceMs = defaultSilenceMs, logger } = this.#options;
    this.#process = new SupervisedProcess({
      name,
      limits,
      silenceMs,
      logger,
      spawn: () => spawnEngine(logger.child({ model: name })),
      begin: async (caller) => {
        const service = forward<EngineService>(caller, ENGINE_SERVICE, engineServiceMethods);
        const sessions = forward<SessionsService>(caller, SESSIONS_SERVICE, sessionsServiceMethods);
        return { service, sessions, facts: await this.#load(service) };
      },
      end: ({ service }) => service.close(),
    });
    await this.#process.ready();
  }

  async unload(): Promise<void> {
    await this.#process?.stop();
    this.#process = null;
  }

  async prepare(request: GenerationRequest, signal: AbortSignal): Promise<PreparedChat> {
    const giveBack = await this.#options.pool.use(this, signal);
    try {
      let engine = await this.#ready(signal);
      const { id, chat } = await this.#told(engine.service.prepare(request, signal));
      let preparedId = id;
      const process = this;
      return {
        ...chat,
        async *run(running) {
          const now = await process.#ready(running);
          if (now !== engine) {
            // The process that it was prepared in has died before this began: nothing is lost.
            engine = now;
            preparedId = (await process.#told(engine.service.prepare(request, running))).id;
          }
          try {
            yield* engine.service.run(preparedId, running);
          } catch (error) {
            throw process.#explain(error);
          }
        },
        close: () => {
          giveBack();
          engine.service.discard(preparedId).catch(() => {}); // it is gone with its process otherwise
        },
      };
    } catch (error) {
      giveBack();
      throw error;
    }
  }

  async memory(): Promise<EngineMemory | null> {
    if (this.state !== 'ready') return null;
    const { service } = await this.#ready(never);
    return await service.memory().catch(() => null); // its process has just ended
  }

  async #load(service: EngineService): Promise<EngineFacts> {
    const { onProgress, modelId, contextLength, kvFormat, selector, sessionStore, storedName, path, load } =
      this.#options;
    const asked = { modelId, contextLength, kvFormat, selector, sessionStore, storedName, path, load };
    for await (const event of service.load(asked)) {
      if (event.type === 'progress') onProgress?.(event.fraction);
      else this.#facts = event.facts;
    }
    if (this.#facts === null) throw new CtkvrError('CTKVR_INTERNAL', 'the process loaded no model');
    return this.#facts;
  }

  /** As `#use`. The model stays loaded until the session is read and saved: what is half read would be lost with its process. */
  async #makeSession<T extends SessionInfo | null>(
    owner: string,
    work: (sessions: DocumentSessions) => Promise<T>,
  ): Promise<T> {
    const { pool } = this.#options;
    const giveBack = await pool.use(this, never);
    try {
      const { sessions } = await this.#ready(never);
      const session = await this.#told(work(sessions));
      const settled = session === null ? Promise.resolve() : sessions.settled({ owner, id: session.id });
      untilAborted(settled, pool.closing).then(giveBack, giveBack);
      return session;
    } catch (error) {
      giveBack();
      throw error;
    }
  }

  /** Runs work on the sessions in the process, or on those on disk while there is none. */
  async #useKept<T>(work: (sessions: KeptSessions) => Promise<T>): Promise<T> {
    const lease = this.#leaseIfReady();
    if (lease === null) return await work(this.#atRest);
    try {
      return await this.#told(work((await this.#ready(never)).sessions));
    } finally {
      lease();
    }
  }

  async *#streamKept<T>(
    work: (sessions: KeptSessions) => AsyncGenerator<T, void, undefined>,
  ): AsyncGenerator<T, void, undefined> {
    const lease = this.#leaseIfReady();
    if (lease === null) {
      yield* work(this.#atRest);
      return;
    }
    try {
      yield* work((await this.#ready(never)).sessions);
    } catch (error) {
      throw this.#explain(error);
    } finally {
      lease();
    }
  }

  /** Null also while the process is started again: what it had in memory is lost. */
  #leaseIfReady(): (() => void) | null {
    return this.state === 'ready' ? this.#options.pool.useIfLoaded(this) : null;
  }

  /** Runs work with the model loaded. */
  async #use<T>(signal: AbortSignal, work: (engine: LoadedEngine) => Promise<T>): Promise<T> {
    const giveBack = await this.#options.pool.use(this, signal);
    try {
      return await this.#told(work(await this.#ready(signal)));
    } finally {
      giveBack();
    }
  }

  async #ready(signal: AbortSignal): Promise<LoadedEngine> {
    if (this.#process === null) throw new CtkvrError('CTKVR_INTERNAL', 'a model in use has no process');
    return await this.#process.ready(signal);
  }

  async #told<T>(work: Promise<T>): Promise<T> {
    return await work.catch((error: unknown) => {
      throw this.#explain(error);
    });
  }

  /** A lost device is lost with its process: another one loads the model anew. */
  #explain(error: unknown): unknown {
    if (!CtkvrError.isInstance(error) || error.code !== 'CTKVR_DEVICE_LOST') return error;
    this.#process?.restart(error.message);
    return processLost(this.modelId, error.message, error);
  }
}
