/** The document sessions of all models served. Ids are unique: a session is found by its own, whichever model has it. */
import { ApiError } from '../api-error.js';
import type { ServedModels } from '../served-models.js';
import type { DocumentSessions, SessionInfo, SessionKey } from './document-sessions.js';

/** A model that reads documents. */
export interface Reader {
  /** The name clients send. */
  readonly model: string;
  readonly sessions: DocumentSessions;
}

/** A session, and the name of the model that has it. */
export interface ServedSession {
  readonly model: string;
  readonly session: SessionInfo;
}

export class ServedSessions {
  readonly #models: ServedModels;
  readonly #readers: readonly Reader[];

  constructor(models: ServedModels) {
    this.#models = models;
    this.#readers = models.all.flatMap(({ modelId: model, sessions }) =>
      sessions === undefined ? [] : [{ model, sessions }],
    );
  }

  /** Whether there is a model that reads documents. */
  get areKept(): boolean {
    return this.#readers.length > 0;
  }

  /** @param asked a model by the name that clients send; none = the first that reads documents. @throws {ApiError} 404 that says which there are. */
  readerOf(asked: string | undefined): Reader {
    const model = asked === undefined ? this.#readers[0]?.model : this.#models.find(asked).modelId;
    const reader = this.#readers.find((one) => one.model === model);
    if (reader !== undefined) return reader;
    const names = this.#readers.map((one) => `'${one.model}'`).join(', ');
    throw new ApiError(404, `Documents are read by ${names} here, not by '${model}'`, {
      param: 'model',
      code: 'model_not_found',
    });
  }

  /** Newest first. */
  async list(owner: string): Promise<ServedSession[]> {
    const lists = this.#readers.map(async ({ model, sessions }) =>
      (await sessions.list(owner)).map((session) => ({ model, session })),
    );
    return (await Promise.all(lists)).flat().sort((a, b) => b.session.created - a.session.created);
  }

  async count(owner: string): Promise<number> {
    const counts = await Promise.all(this.#readers.map(({ sessions }) => sessions.count(owner)));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /** Null when no model has it. A model that answers late is waited for only then. */
  find(key: SessionKey): Promise<(Reader & ServedSession) | null> {
    return firstFound(
      this.#readers.map(async (reader) => {
        const session = await reader.sessions.get(key);
        return session === null ? null : { ...reader, session };
      }),
    );
  }
}

/** The first result that is not null. @throws when there is none, what one of them throws. */
function firstFound<T>(results: readonly Promise<T | null>[]): Promise<T | null> {
  return new Promise((resolve, reject) => {
    const told = results.map((result) =>
      result.then((found) => {
        if (found !== null) resolve(found);
      }),
    );
    void Promise.allSettled(told).then((all) => {
      const failed = all.find(({ status }) => status === 'rejected');
      if (failed === undefined) resolve(null);
      else reject((failed as PromiseRejectedResult).reason);
    });
  });
}
